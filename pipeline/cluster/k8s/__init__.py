"""A run on Kubernetes: what leads it inside the cluster, and what `submit` writes for it outside.

api.py: the API server over plain HTTP; kinds.py: how each kind of object says where it stands; live.py: a template and
the copy of it that runs; reconcile.py: curate -> manifest -> train -> eval; overlay.py: the files of `submit --on k8s`.
"""
