// Package realnode gives the clusters of a lab real nodes: containerd, runc, kubelet and kube-proxy in namespaces of one machine, and
// a router namespace that plays the wide-area network between the clusters.
//
// It knows namespaces, cgroups, devices, certificates of kubelets and images. It does not know how control planes come about: the
// lab hands it their addresses, CAs and binaries. It needs root, and says in [Preflight] what else.
//
//	plan, err := realnode.Reserve(ctx, cfg)          // addresses; the API servers may listen on them from now on
//	nodes, err := realnode.Start(ctx, cfg, plan, access)  // returns when all nodes are Ready and cluster DNS answers
//	err = nodes.Kill(ctx, "east-real-1")
//	err = realnode.Clean(ctx, cfg.Lab, cfg.Dir)      // always works, as often as you like
//
// A node is one process in its own net, mount, pid, uts, ipc and cgroup namespaces; killing it removes the node. Nothing is mounted
// on the machine, and of its settings only the number of inotify instances is raised while labs run. On the machine's own network there
// is one device per lab.
//
//	machine ── uplink ── router ─┬─ br-0 ── east-real-1, east-real-2
//	(API servers)                └─ br-1 ── west-real-1, west-real-2
//
// The router knows the nodes' addresses but no pod range. Everything is IPv4 so far; addresses are netip values throughout.
package realnode
