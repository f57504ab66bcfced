"""What the files of other people's frameworks hold, read and checked here before a runtime sees them."""
