"""`python -m minigpt_tui` is `minigpt-tui`."""

from minigpt_tui.cli import main

if __name__ == "__main__":
    main()
