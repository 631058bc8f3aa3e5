"""Who is told of an alert, and when: routes, groups, silences, inhibition, escalation. Pure: time is an argument."""
