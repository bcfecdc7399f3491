"""Between the event loop and the connections: what asyncio sees of them, their deadlines, their turns, their end."""
