"""What a server tells its operator as it goes: lines of a log and, where asked for, traces.

Both carry the id of the request that something was done for, across processes.
"""
