"""`headrace demo`: real tables in two silos, joined through one tree, and a path kept off disks."""
