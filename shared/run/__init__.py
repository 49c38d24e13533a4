"""One run, of either half: its command line, its folder, and the way from config to report."""
