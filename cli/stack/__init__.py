"""The command line's rooms: all services as local processes, the demo, the live table, the chat."""
