"""The store of all that was generated: what is kept of a text, how it is found again, and how it leaves."""
