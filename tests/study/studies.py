"""The study that several tests make or look at."""

SCENARIOS = ["encoder-frozen", "intent-head-frozen-risky", "top:1", "slots-alone"]


def arguments(config, folder, *options):
    """Return its command; options replace its own."""
    own = {"--scenarios": ",".join(SCENARIOS), "--seeds": "2", "--sizes": "8,all", "--output": str(folder)}
    own |= dict(zip(options[::2], options[1::2], strict=True))
    return ["study", str(config), *(word for option in own.items() for word in option)]
