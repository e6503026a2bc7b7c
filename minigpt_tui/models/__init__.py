"""The models of this machine as their screen shows them: which there are, what is known of one, in words."""
