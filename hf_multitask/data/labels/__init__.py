"""Label sets, tags, checks of labels, class balance and stratified splits."""
