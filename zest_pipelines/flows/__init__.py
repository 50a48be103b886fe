"""The stations that data passes, in the order in which it travels: land, diff, apply; accumulate, push.

Each is one function of what it needs and of whose data it moves, and returns a frozen report. They read and write
through the store and the partner's connector, hold no transaction while a partner is asked, and know no Dagster.
"""
