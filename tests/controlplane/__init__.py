"""A real control plane as plain processes: etcd, kube-apiserver, kube-controller-manager, Tekton's webhook and controller.

No root, no containers, no kubelet: everything the API server and Tekton decide is real (admission, defaults, names,
RBAC, TaskRuns, timeouts, garbage collection); pods stay Pending until `pods` plays the kubelet.

`python -m tests.controlplane --help` is for people; `fixtures` is for tests; `ControlPlane` in `cluster` is underneath both.
"""
