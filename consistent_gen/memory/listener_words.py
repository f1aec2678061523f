"""Word lists of the rule listener: occupations, and how people speak of taking things up.

A sentence "I am a ..." tells a job only when what follows names one, so the list is closed.
"""

from __future__ import annotations

_OCCUPATIONS = """
accountant actor actress actuary analyst anaesthetist archaeologist architect archivist artist
astronomer athlete attorney auditor baker banker barber barista bartender beekeeper biologist
blacksmith bookbinder bookkeeper botanist builder butcher captain caretaker carpenter cartographer
cashier chef chemist cleaner clerk coach cobbler coder composer conductor conservator consultant
contractor cook counsellor counselor courier curator dancer dentist designer detective developer
dietitian diplomat director diver doctor driver economist editor electrician engineer entrepreneur
farmer firefighter fisherman florist gardener geologist glassblower glazier goldsmith guard guide
hairdresser historian illustrator interpreter inventor janitor jeweller jeweler joiner journalist
judge lawyer lecturer librarian lifeguard locksmith luthier machinist manager mason mathematician
mechanic midwife miner model musician nanny notary nurse nutritionist officer optician painter
paralegal paramedic pastor pharmacist photographer physicist physiotherapist pianist pilot plumber
poet politician porter postman potter priest principal printer producer professor programmer
proofreader psychiatrist psychologist ranger receptionist recruiter reporter researcher sailor
salesman scientist sculptor secretary shepherd shopkeeper singer smith soldier solicitor surgeon
surveyor tailor teacher technician therapist trainer translator tutor undertaker upholsterer vet
veterinarian violinist waiter waitress watchmaker weaver welder writer zookeeper zoologist
"""
OCCUPATION = (
    r"(?:[a-z-]+ ){0,3}?(?:"
    + "|".join(_OCCUPATIONS.split())
    + r")(?: (?:at|for|in) [^,.!?;]{2,40})?"
)
DIETS = r"(?:vegetarian|vegan|pescatarian|keto|paleo|kosher|halal|gluten[- ]free|lactose[- ]free)"
