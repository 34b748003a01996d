"""Which task runs where and when: events in, commands out.

This room reads no clock, opens nothing, logs nothing and draws no random number. It imports nothing of the other
rooms but ``errors`` and ``config``; tasks are numbers to it.
"""
