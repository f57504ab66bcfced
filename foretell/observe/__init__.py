"""Observers: whatever looks at passages and says what it saw. One file each; none knows a neighbour."""
