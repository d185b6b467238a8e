"""Look of the page, its lists, and the browser's back button between its tabs."""

import gradio as gr

CSS = """
.wide {overflow-x: auto}
.wide + p {margin-top: 1em}
table.facts {border: 0 !important; border-collapse: collapse; width: 100%; font-size: .9em}
table.facts tr, table.facts thead, table.facts tbody {border: 0 !important}
table.facts caption {text-align: left; font-weight: 600; padding: .3em .6em}
table.facts th, table.facts td {border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important;
  padding: .35em .6em !important; text-align: left; vertical-align: top; color: var(--body-text-color)}
.notice {border-left: 4px solid var(--color-accent); padding: .5em .8em; margin: .3em 0; border-radius: 4px;
  background: var(--background-fill-secondary); color: var(--body-text-color); overflow-wrap: anywhere}
.notice.warning {border-left-color: #E69F00}
.notice.error {border-left-color: #D55E00}
h2.part {font-size: 1.1em; font-weight: 600; margin: .6em 0 .2em}
#results table {font-family: var(--font); font-size: .85em}
progress.steps {width: 100%; height: .7em; border: 0; border-radius: 3px; background: var(--border-color-primary)}
progress.steps::-webkit-progress-bar {background: var(--border-color-primary); border-radius: 3px}
progress.steps::-webkit-progress-value {background: #0072B2; border-radius: 3px}
progress.steps::-moz-progress-bar {background: #0072B2}
mark.entity {background: var(--color-accent-soft); color: var(--body-text-color); border-radius: 4px; padding: 0 .3em}
mark.entity b {font-size: .8em; font-weight: 600}
.score {display: grid; grid-template-columns: minmax(6em, 14em) 1fr 4em; gap: .6em; align-items: center;
  margin: .15em 0}
.score .label {overflow-wrap: anywhere}
.score .track {background: var(--border-color-primary); border-radius: 3px; height: .7em}
.score .track span {display: block; background: #0072B2; border-radius: 3px; height: 100%}
.score .value {text-align: right; font-variant-numeric: tabular-nums}
.models {display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20em), 1fr)); gap: 1.5em}
.answer {border: 1px solid var(--border-color-primary); border-radius: 6px; padding: .5em .8em; margin: .5em 0}
.answer h3 {font-size: 1em; font-weight: 600; margin: 0 0 .3em}
.answer.differing {border-color: #D55E00; border-width: 2px}
.badge {border: 1px solid #D55E00; border-radius: 1em; font-size: .75em; font-weight: 600; padding: 0 .5em;
  white-space: nowrap}
.quiet {color: var(--body-text-color-subdued); white-space: nowrap}
.unseen {display: none !important}
input[role="combobox"] {text-overflow: ellipsis; padding-right: 1.4em !important}
/* Of the theme, whose contrast is too low for some readers. */
button[role="tab"][aria-selected="true"] {color: var(--primary-700) !important}
.dark button[role="tab"][aria-selected="true"] {color: var(--primary-300) !important}
#scenarios label {width: 100%}
#data-picture img, #run-conflict img {max-width: 100%}
.vega-embed {overflow-x: auto !important}
.vega-embed svg {overflow: visible}
.dark #data-picture img, .dark #run-conflict img {filter: invert(.9) hue-rotate(180deg)}
@media (max-width: 640px) {
  .tab-container button {padding: 0 .45em !important; font-size: .9em !important}
  #data-picture img, #run-conflict img {max-width: none; width: 40em}
  .form {flex-direction: column !important}
  .form > * {min-width: 0 !important; width: 100%}
  .score {grid-template-columns: minmax(4em, 7em) 1fr 3.5em}
  table.facts {font-size: .8em}
  /* Tables with many columns: a block of lines per row. */
  :is(#plan, #prices, #study-state) table.facts :is(tr, td) {display: block}
  :is(#plan, #prices, #study-state) table.facts thead {display: none}
  :is(#plan, #prices, #study-state) table.facts td {border: 0 !important; padding: .15em .6em !important}
  :is(#plan, #prices, #study-state) table.facts td::before {content: attr(data-column) ": "; font-weight: 600}
  :is(#plan, #prices, #study-state) table.facts tr {border-bottom: 1px solid var(--border-color-primary) !important;
    padding: .4em 0}
}
"""

# A list of Gradio stays open when Tab leaves it.
LISTS = """() => {
  const close = (field) => {
    const isOpen = document.getElementById(field.getAttribute('aria-controls')) !== null;
    if (isOpen) field.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true}));
  };
  document.addEventListener('focusout', ({target}) => {
    if (target.getAttribute('role') === 'combobox') setTimeout(close, 0, target);
  });
}"""

# Each tab has an address, so that Back leads to the last tab and a reload stays on this one.
HISTORY = """() => {
  const tabs = () => [...document.querySelectorAll('button[role="tab"]')];
  const address = (tab) => '#' + tab.textContent.trim().toLowerCase().replaceAll(' ', '-');
  const open = () => {
    const tab = tabs().find((tab) => address(tab) === location.hash) ?? (location.hash ? null : tabs()[0]);
    if (tab && tab.getAttribute('aria-selected') !== 'true') tab.click();
  };
  const list = tabs()[0].closest('[role="tablist"]');
  new MutationObserver(() => {
    const tab = tabs().find((tab) => tab.getAttribute('aria-selected') === 'true');
    if (!tab || address(tab) === location.hash || (!location.hash && tab === tabs()[0])) return;
    history.pushState(null, '', address(tab));
  }).observe(list, {subtree: true, attributes: true, attributeFilter: ['aria-selected'], childList: true});
  addEventListener('popstate', open);
  open();
}"""


def build_theme() -> gr.themes.Base:
    """Return the theme. It uses fonts of the system, so that the page downloads none."""
    return gr.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(
        # A contrast of at least 4.5 to the text on them.
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_dark="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
        button_cancel_background_fill_hover_dark="#991b1b",
        button_cancel_text_color="white",
        button_cancel_text_color_dark="white",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )
