"""What leads a run inside a Kubernetes cluster (what submits it from outside: pipeline/cluster/schedulers/k8s.py).

api.py: the API server over plain HTTP; kinds.py: how each kind of object says where it stands; live.py: a template and
the copy of it that runs; reconcile.py: curate -> manifest -> reinforce -> train -> eval.
"""
