"""What becomes of acknowledged samples when processes die, hang, fill up or repeat themselves."""
