"""What draws for a gateway: a painter on one thread and a courier on another (`loop`).

Work comes from a source of `leases`: the stores of this process or a gateway over HTTP. Nothing is
imported here, since a worker loads torch.
"""
