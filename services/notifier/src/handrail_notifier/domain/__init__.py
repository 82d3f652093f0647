"""Pure: positions, the ring, the inbox. No IO, no clock, no asyncio."""
