"""Play vehicles and chargers, with faults, and keep the truth they must produce.

An independent witness: it imports only `gateway.core`, and speaks through other libraries than the gateway does.
"""
