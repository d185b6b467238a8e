"""The study that several tests run or read."""

SCENARIOS = ["encoder-frozen", "intent-head-frozen-risky", "top:1", "slots-alone"]


def arguments(config, folder, *options):
    """Return the command of the study. Options replace the defaults."""
    defaults = {"--scenarios": ",".join(SCENARIOS), "--seeds": "2", "--sizes": "8,all", "--output": str(folder)}
    defaults |= dict(zip(options[::2], options[1::2], strict=True))
    return ["study", str(config), *(word for option in defaults.items() for word in option)]
