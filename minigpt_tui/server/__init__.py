"""The HTTP server, an optional extra (`pip install 'minigpt-tui[serve]'`): the shapes of OpenAI's API and of the
tutorials, over the engine's process. It checks, queues and streams; it imports no torch.
"""
