"""What the training screen, its form and the shell share: runs as they are read, drafted, watched and put in words."""
