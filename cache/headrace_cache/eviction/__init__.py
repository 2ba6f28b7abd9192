"""Pure rules that choose what leaves a full tier."""
