"""Tag schemes: recognition, conversion to IOB2 and back, broken sequences."""

import itertools

import pytest
import seqeval.scheme
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from hf_multitask.models.tags_iob2 import TagSpan, tag_spans
from hf_multitask.models.tags_schemes import (
    TAG_SCHEMES,
    BrokenTag,
    SchemeRecognizer,
    first_broken_tag,
    first_invalid_tag,
    from_iob2,
    is_tag_of,
    scheme_of_name,
    tag_forms,
    to_iob2,
    to_iob2_checked,
)

PREFIXED = [scheme for scheme in TAG_SCHEMES if scheme != "raw"]
TYPES = ["PER", "LOC", "B-52", "x-y", "O"]
SEQEVAL = {
    "IOB1": seqeval.scheme.IOB1,
    "IOB2": seqeval.scheme.IOB2,
    "BILOU": seqeval.scheme.BILOU,
    "BIOES": seqeval.scheme.IOBES,
}
PREFIXES = {"IOB1": "BI", "IOB2": "BI", "BILOU": "BILU", "BIOES": "BIES"}

# The same four entities in each scheme: three words, two of one word, and a neighbor of another type.
SAME = {
    "IOB1": "I-x I-x I-x B-x B-x O I-x I-y I-y",
    "IOB2": "B-x I-x I-x B-x B-x O B-x B-y I-y",
    "BILOU": "B-x I-x L-x U-x U-x O U-x B-y L-y",
    "BIOES": "B-x I-x E-x S-x S-x O S-x B-y E-y",
}
# The start of the original CoNLL-2003 file eng.train, and two rows like those with B-.
CONLL_2003 = [
    row.split()
    for row in (
        "I-ORG O I-MISC O O O I-MISC O O",  # EU rejects German call to boycott British lamb .
        "I-PER I-PER",  # Peter Blackburn
        "I-LOC O",  # BRUSSELS 1996-08-22
        "O I-ORG I-ORG O O O O O O I-MISC O O O O O I-MISC O",  # The European Commission said on Thursday it …
        "O I-LOC B-LOC O",
        "O O I-MISC I-MISC B-MISC I-MISC O",
    )
]


def recognize_scheme(rows):
    recognizer = SchemeRecognizer()
    for tags in rows:
        recognizer.add(tags)
    return recognizer.scheme()


@st.composite
def spans_and_length(draw, types=tuple(TYPES), neighbours=True):
    """Draw entities in order, words outside between some of them, and the number of words."""
    spans, end = [], 0
    for gap, length, kind in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(types)), max_size=6)
    ):
        same = bool(spans) and spans[-1].label == kind
        start = end + (gap or (1 if same and not neighbours else 0))
        end = start + length
        spans.append(TagSpan(kind, start, end))
    return spans, end + draw(st.integers(0, 2))


def iob2_of(spans, length):
    """Write IOB2 without the code under test."""
    tags = ["O"] * length
    for span in spans:
        tags[span.start : span.end] = [f"B-{span.label}"] + [f"I-{span.label}"] * (span.end - span.start - 1)
    return tags


def any_tags(scheme, types=("x", "y")):
    """Draw tags of a scheme in any order, most of them broken sequences."""
    tags = types if scheme == "raw" else [f"{letter}-{kind}" for letter in PREFIXES[scheme] for kind in types]
    return st.lists(st.sampled_from(["O", *tags]), max_size=9)


def with_gaps(tags, gaps):
    """Put words without a tag between the others."""
    return [item for tag, gap in itertools.zip_longest(tags, gaps) for item in [*([None] * (gap or 0)), tag]]


@pytest.mark.parametrize("scheme", PREFIXED)
def test_the_same_entities_in_each_scheme(scheme):
    tags = SAME[scheme].split()
    assert to_iob2(tags, scheme) == SAME["IOB2"].split()
    assert from_iob2(SAME["IOB2"].split(), scheme) == tags
    assert first_broken_tag(tags, scheme) is None
    assert recognize_scheme([tags]) == scheme


@pytest.mark.parametrize(
    ("scheme", "tags", "read", "broken"),
    [
        ("IOB1", "O B-x I-x", "O B-x I-x", BrokenTag(1, "B-x", "I-x")),
        ("IOB1", "B-x", "B-x", BrokenTag(0, "B-x", "I-x")),
        ("IOB1", "I-x B-y", "B-x B-y", BrokenTag(1, "B-y", "I-y")),
        ("IOB1", "I-x I-y", "B-x B-y", None),
        ("IOB1", "I-x B-x I-x", "B-x B-x I-x", None),
        ("IOB2", "O I-x I-x", "O B-x I-x", BrokenTag(1, "I-x", "B-x")),
        ("IOB2", "I-x", "B-x", BrokenTag(0, "I-x", "B-x")),
        ("IOB2", "B-x I-y I-y", "B-x B-y I-y", BrokenTag(1, "I-y", "B-y")),
        ("IOB2", "B-x I-x O I-x", "B-x I-x O B-x", BrokenTag(3, "I-x", "B-x")),
        ("BILOU", "B-x O", "B-x O", BrokenTag(0, "B-x", "U-x")),
        ("BILOU", "B-x B-x L-x", "B-x B-x I-x", BrokenTag(0, "B-x", "U-x")),
        ("BILOU", "B-x I-x", "B-x I-x", BrokenTag(1, "I-x", "L-x")),
        ("BILOU", "B-x I-x U-x", "B-x I-x B-x", BrokenTag(1, "I-x", "L-x")),
        ("BILOU", "O L-x", "O B-x", BrokenTag(1, "L-x", "U-x")),
        ("BILOU", "I-x L-x", "B-x I-x", BrokenTag(0, "I-x", "B-x")),
        ("BILOU", "U-x L-x", "B-x B-x", BrokenTag(1, "L-x", "U-x")),
        ("BILOU", "U-x I-x L-x", "B-x B-x I-x", BrokenTag(1, "I-x", "B-x")),
        ("BILOU", "B-x L-x I-x", "B-x I-x B-x", BrokenTag(2, "I-x", "U-x")),
        ("BILOU", "B-x L-x L-x", "B-x I-x B-x", BrokenTag(2, "L-x", "U-x")),
        ("BILOU", "B-x L-y", "B-x B-y", BrokenTag(0, "B-x", "U-x")),
        ("BILOU", "B-x I-y L-x", "B-x B-y B-x", BrokenTag(0, "B-x", "U-x")),
        ("BIOES", "B-x O", "B-x O", BrokenTag(0, "B-x", "S-x")),
        ("BIOES", "I-x E-x", "B-x I-x", BrokenTag(0, "I-x", "B-x")),
        ("BIOES", "O E-x", "O B-x", BrokenTag(1, "E-x", "S-x")),
        ("BIOES", "S-x E-x", "B-x B-x", BrokenTag(1, "E-x", "S-x")),
        ("BIOES", "B-x I-x", "B-x I-x", BrokenTag(1, "I-x", "E-x")),
        ("raw", "x x O x y", "B-x I-x O B-x B-y", None),
        ("raw", "B-52 B-52", "B-B-52 I-B-52", None),
    ],
)
def test_broken_sequences_are_read_and_found(scheme, tags, read, broken):
    assert to_iob2(tags.split(), scheme) == read.split()
    assert first_broken_tag(tags.split(), scheme) == broken


@pytest.mark.parametrize("scheme", TAG_SCHEMES)
def test_no_words_and_no_entities(scheme):
    for tags in ([], ["O", "O"], [None], [None, "O"]):
        assert to_iob2(tags, scheme) == from_iob2(tags, scheme) == tags
        assert first_broken_tag(tags, scheme) is None


@pytest.mark.parametrize("scheme", PREFIXED)
@given(drawn=spans_and_length())
def test_entities_survive_each_scheme(scheme, drawn):
    tags = iob2_of(*drawn)
    written = from_iob2(tags, scheme)
    assert first_broken_tag(written, scheme) is None
    assert to_iob2(written, scheme) == tags
    assert from_iob2(to_iob2(written, scheme), scheme) == written


@given(drawn=spans_and_length())
def test_from_each_scheme_to_each_other_and_back(drawn):
    for source, target in itertools.permutations(PREFIXED, 2):
        tags = from_iob2(iob2_of(*drawn), source)
        there = from_iob2(to_iob2(tags, source), target)
        assert from_iob2(to_iob2(there, target), source) == tags


@given(drawn=spans_and_length(types=("PER", "LOC", "B-52"), neighbours=False))
def test_raw_types_keep_entities_that_are_no_neighbours_of_their_type(drawn):
    tags = iob2_of(*drawn)
    assert to_iob2(from_iob2(tags, "raw"), "raw") == tags


@given(tags=any_tags("raw"))
def test_raw_types_come_back_as_they_were(tags):
    assert from_iob2(to_iob2(tags, "raw"), "raw") == tags
    assert first_broken_tag(tags, "raw") is None


def test_raw_types_join_neighbours_of_one_type():
    assert from_iob2(["B-x", "B-x", "B-y"], "raw") == ["x", "x", "y"]
    assert to_iob2(["x", "x", "y"], "raw") == ["B-x", "I-x", "B-y"]


@pytest.mark.parametrize("scheme", PREFIXED)
@given(drawn=spans_and_length(types=("PER", "LOC", "x-y")))
def test_entities_are_those_of_seqeval_in_strict_mode(scheme, drawn):
    spans, length = drawn
    tags = from_iob2(iob2_of(spans, length), scheme)
    (found,) = seqeval.scheme.Entities([tags], SEQEVAL[scheme]).entities
    expected = [TagSpan(entity.tag, entity.start, entity.end) for entity in found]
    assert tag_spans(to_iob2(tags, scheme)) == expected == spans


@pytest.mark.parametrize("scheme", PREFIXED)
@given(data=st.data())
def test_broken_sequences_have_the_entities_of_conlleval(scheme, data):
    tags = data.draw(any_tags(scheme))
    # seqeval's conlleval knows E- and S-, not L- and U-.
    letters = {"L": "E", "U": "S"} if scheme == "BILOU" else {}
    known = [letters.get(tag[0], tag[0]) + tag[1:] for tag in tags]
    expected = [TagSpan(kind, start, end + 1) for kind, start, end in get_entities(known)]
    assert tag_spans(to_iob2(tags, scheme)) == expected


@pytest.mark.parametrize("scheme", ["IOB2", "BILOU", "BIOES"])
@given(data=st.data())
def test_a_sequence_is_valid_where_strict_seqeval_has_all_that_is_read(scheme, data):
    tags = data.draw(any_tags(scheme))
    (strict,) = seqeval.scheme.Entities([tags], SEQEVAL[scheme]).entities
    found = {(entity.tag, entity.start, entity.end) for entity in strict}
    assert (first_broken_tag(tags, scheme) is None) == (found == set(tag_spans(to_iob2(tags, scheme))))


@given(tags=any_tags("IOB1"))
def test_iob1_is_valid_where_each_b_stands_behind_its_own_type(tags):
    broken = [i for i, tag in enumerate(tags) if tag[0] == "B" and (i == 0 or tags[i - 1][1:] != tag[1:])]
    found = first_broken_tag(tags, "IOB1")
    assert (found.word if found else None) == (broken[0] if broken else None)


@pytest.mark.parametrize("scheme", TAG_SCHEMES)
@given(data=st.data())
def test_what_is_read_is_valid_and_reading_it_again_changes_nothing(scheme, data):
    read = to_iob2(data.draw(any_tags(scheme)), scheme)
    assert first_broken_tag(read, "IOB2") is None
    assert to_iob2(read, "IOB2") == read
    assert first_broken_tag(from_iob2(read, scheme), scheme) is None


@pytest.mark.parametrize("scheme", TAG_SCHEMES)
@given(data=st.data(), gaps=st.lists(st.integers(0, 2), max_size=9))
def test_reading_and_checking_at_once_is_both(scheme, data, gaps):
    tags = with_gaps(data.draw(any_tags(scheme)), gaps)
    assert to_iob2_checked(tags, scheme) == (to_iob2(tags, scheme), first_broken_tag(tags, scheme))


def test_the_first_tag_of_another_scheme_is_found():
    assert first_invalid_tag(["O", None, "B-x", "U-x", "x", "U-x"], "IOB2") == 3
    assert first_invalid_tag(["O", None, "B-x", "U-x"], "BILOU") is None
    assert first_invalid_tag([], "IOB2") is None
    with pytest.raises(
        ValueError, match=r"'U-x' \(word 3\) is not a tag of IOB2; expected 'O', 'B-<type>' or 'I-<type>'"
    ):
        to_iob2_checked(["O", None, "B-x", "U-x"], "IOB2")


@pytest.mark.parametrize("scheme", TAG_SCHEMES)
@given(data=st.data(), gaps=st.lists(st.integers(0, 2), max_size=9))
def test_words_without_a_tag_are_passed_over(scheme, data, gaps):
    tags = data.draw(any_tags(scheme))
    gaps = gaps[: len(tags)]
    wide = with_gaps(tags, gaps)
    assert to_iob2(wide, scheme) == with_gaps(to_iob2(tags, scheme), gaps)
    assert from_iob2(to_iob2(wide, scheme), scheme) == with_gaps(from_iob2(to_iob2(tags, scheme), scheme), gaps)
    narrow_broken, wide_broken = first_broken_tag(tags, scheme), first_broken_tag(wide, scheme)
    assert (narrow_broken is None) == (wide_broken is None)
    if wide_broken is not None:
        assert wide_broken[1:] == narrow_broken[1:]
        assert wide[wide_broken.word] == wide_broken.tag


@pytest.mark.parametrize("scheme", PREFIXED)
@given(drawn=st.lists(spans_and_length(types=("PER", "LOC", "x-y")), max_size=4))
def test_the_scheme_of_a_random_split_is_recognised(scheme, drawn):
    rows = [from_iob2(iob2_of(*row), scheme) for row in [*drawn, ([TagSpan("PER", 0, 1), TagSpan("PER", 2, 4)], 5)]]
    assert recognize_scheme(rows) == scheme


@given(rows=st.lists(any_tags("IOB2"), max_size=5))
def test_the_scheme_that_fewer_words_break_is_recognised(rows):
    def broken(scheme):
        written = [from_iob2(to_iob2(tags, scheme), scheme) for tags in rows]
        return sum(
            tag != wanted
            for tags, other in zip(rows, written, strict=True)
            for tag, wanted in zip(tags, other, strict=True)
        )

    assert recognize_scheme(rows) == ("IOB1" if broken("IOB1") < broken("IOB2") else "IOB2")


@given(rows=st.lists(any_tags("raw", ("person", "geo-loc", "date_time")), max_size=4))
def test_raw_types_are_recognised(rows):
    assert recognize_scheme([*rows, ["person"]]) == "raw"


def test_conll_2003_is_iob1():
    assert recognize_scheme(CONLL_2003) == "IOB1"
    assert all(first_broken_tag(tags, "IOB1") is None for tags in CONLL_2003)
    assert to_iob2(CONLL_2003[4], "IOB1") == ["O", "B-LOC", "B-LOC", "O"]
    assert to_iob2(CONLL_2003[5], "IOB1") == ["O", "O", "B-MISC", "I-MISC", "B-MISC", "I-MISC", "O"]
    assert [from_iob2(to_iob2(tags, "IOB1"), "IOB1") for tags in CONLL_2003] == CONLL_2003


@pytest.mark.parametrize(
    ("rows", "scheme"),
    [
        ([], "IOB2"),
        ([["O"], [None, "O"], []], "IOB2"),
        ([["B-x", "O"]], "IOB2"),
        ([["B-x", "B-x"]], "IOB2"),
        ([["I-x", "I-x", "O"]], "IOB1"),
        ([["I-x", "B-x"]], "IOB1"),
        ([["I-x", None, "B-x"]], "IOB1"),
        ([["B-x", "I-x"], ["B-y", "O", "B-x"], ["O", "I-x"]], "IOB2"),  # IOB2 with a broken sequence
        ([["I-x", "O", "I-y"], ["B-x"]], "IOB1"),  # IOB1 with one
        ([["B-x"], ["O", "I-x"]], "IOB2"),  # equally many words break either rule
        ([["U-x"]], "BILOU"),
        ([["B-x", "L-x"]], "BILOU"),
        ([["B-x", "I-x"], ["U-y"]], "BILOU"),
        ([["S-x"]], "BIOES"),
        ([["B-x", "E-x"]], "BIOES"),
        ([["B-52", "O"]], "IOB2"),
        ([["E-x", "S-y"], ["B-x"]], "BIOES"),
        ([["Beach", "Island", "mail-address", "O"]], "raw"),
    ],
)
def test_what_few_tags_tell(rows, scheme):
    assert recognize_scheme(iter(rows)) == scheme


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (["B-x", "I-x", "x"], "Closest is IOB2, which does not have 'x'; expected 'O', 'B-<type>' or 'I-<type>'"),
        (["PER", "B-52", "O"], "If 'B-52' are raw types .* give the tag scheme 'raw'"),
        (["address", "e-mail"], "If 'e-mail' are raw types"),
        (["B-x", "L-x", "S-y"], "Closest is BILOU, which does not have 'S-y'"),
        (["B-x", "E-x", "S-x", "U-x"], "Closest is BIOES, which does not have 'U-x'"),
        (["B-x", "M-x", "E-x", "S-x"], "Closest is BIOES, which does not have 'M-x'"),
        (["B", "I", "O"], "does not have 'B', 'I'"),
        (["B-", "O"], "does not have 'B-'"),
        (["B_PER", "I_PER"], "does not have 'B_PER', 'I_PER'"),
        (["b-per", "i-per"], "does not have 'b-per', 'i-per'"),
        (["PER-B", "PER-I"], "does not have 'PER-B', 'PER-I'"),
        ([f"{i}-B" for i in range(30)], "'19-B' and 10 more; expected"),
        (["I-x", "E-x"], "found 'E-x' but no tag with B-; expected BIOES"),
        (["L-x", "U-x"], "found 'L-x' but no tag with B-; expected BILOU"),
        (["B-x", ""], "'' is not a tag of any scheme; expected 'O', '<prefix>-<type>' or '<type>'"),
        (["O", 3], "3 is not a tag of any scheme"),
    ],
)
def test_tags_that_fit_no_scheme_are_refused(tags, message):
    with pytest.raises(ValueError, match=message):
        recognize_scheme([["O"], tags])


@pytest.mark.parametrize(
    ("tag", "schemes"),
    [
        ("O", TAG_SCHEMES),
        ("B-x", TAG_SCHEMES),
        ("I-x", TAG_SCHEMES),
        ("L-x", ("BILOU", "raw")),
        ("U-x", ("BILOU", "raw")),
        ("E-x", ("BIOES", "raw")),
        ("S-x", ("BIOES", "raw")),
        ("x", ("raw",)),
        ("B-", ("raw",)),
        (" ", ()),
        ("", ()),
        (None, ()),
        (7, ()),
    ],
)
def test_which_schemes_have_a_tag(tag, schemes):
    assert tuple(scheme for scheme in TAG_SCHEMES if is_tag_of(tag, scheme)) == schemes


@pytest.mark.parametrize("function", [to_iob2, first_broken_tag])
@pytest.mark.parametrize(
    ("scheme", "tag", "expected"),
    [
        ("IOB1", "L-x", "'O', 'B-<type>' or 'I-<type>'"),
        ("IOB2", "x", "'O', 'B-<type>' or 'I-<type>'"),
        ("BILOU", "S-x", "'O', 'B-<type>', 'I-<type>', 'L-<type>' or 'U-<type>'"),
        ("BIOES", "I-", "'O', 'B-<type>', 'I-<type>', 'E-<type>' or 'S-<type>'"),
        ("raw", "", "'O' or '<type>'"),
    ],
)
def test_a_tag_of_another_scheme_is_refused_with_its_word(function, scheme, tag, expected):
    assert tag_forms(scheme) == expected
    with pytest.raises(ValueError, match=rf"^'{tag}' \(word 2\) is not a tag of {scheme}; expected {expected}\.$"):
        function(["O", None, tag], scheme)


def test_what_iob2_or_raw_types_cannot_hold_is_refused():
    with pytest.raises(ValueError, match=r"'U-x' \(word 0\) is not a tag of IOB2"):
        from_iob2(["U-x"], "BILOU")
    with pytest.raises(ValueError, match="an entity type 'O' cannot be written raw"):
        from_iob2(["O", "B-O"], "raw")


def test_schemes_have_other_names():
    assert [scheme_of_name(name) for name in TAG_SCHEMES] == list(TAG_SCHEMES)
    assert [scheme_of_name(name) for name in ("BIO", "IOBES", "BILUO", "BIOUL")] == ["IOB2", "BIOES", "BILOU", "BILOU"]
    assert to_iob2(["S-x"], "IOBES") == ["B-x"]
    assert from_iob2(["B-x"], "BILUO") == ["U-x"]
    assert first_broken_tag(["I-x"], "BIO") == BrokenTag(0, "I-x", "B-x")


@pytest.mark.parametrize("function", [to_iob2, from_iob2, first_broken_tag, is_tag_of])
def test_an_unknown_scheme_is_refused(function):
    with pytest.raises(ValueError, match=r"unknown tag scheme 'IOBS'\. Did you mean 'IOBES'.* Allowed: 'IOB1'"):
        function([], "IOBS")


@pytest.mark.realdata
def test_wnut17_is_iob2(real_data):
    rows = [[]]
    for line in (real_data / "wnut17" / "train.conll").read_text(encoding="utf-8").splitlines():
        word, _, tag = line.partition("\t")
        if word.strip():
            rows[-1].append(tag)
        elif rows[-1]:
            rows.append([])
    assert len(rows) > 3000
    assert recognize_scheme(rows) == "IOB2"
    for scheme in PREFIXED:
        written = [from_iob2(tags, scheme) for tags in rows]
        assert recognize_scheme(written) == scheme
        assert [to_iob2(tags, scheme) for tags in written] == rows
