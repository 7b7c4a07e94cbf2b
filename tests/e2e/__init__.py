"""Hubs as processes between real counterparts, killed, stopped and cut off while events are on their way."""
