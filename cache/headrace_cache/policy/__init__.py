"""What may be kept where: the rules, the file they come from, and how a change takes hold."""
