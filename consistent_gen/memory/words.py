"""Words so frequent in English that they tell no two memories apart."""

from __future__ import annotations

_LISTED = """
a an and are as at be been but by can could did do does for from had has have he her hers him
his how i if in into is it its me my of on or our she should so some than that the their them
then there these they this those to us was we were what when where which who whom whose why
will with would you your about tell know remember ever any also just not now today
"""
STOP_WORDS = frozenset(_LISTED.split())
