"""A real control plane: etcd, kube-apiserver, kube-controller-manager, Tekton's webhook and controller.

They run as plain processes, without root, containers or a kubelet. Everything the API server and Tekton
decide is real (admission, defaults, names, RBAC, TaskRuns, timeouts, garbage collection); pods stay
Pending until `pods` plays the kubelet.

`python -m tests.controlplane --help` is for people; `fixtures` is for tests; `ControlPlane` in `cluster` is
underneath both.
"""
