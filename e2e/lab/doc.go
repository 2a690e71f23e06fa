// Package lab starts real Kubernetes clusters on one Linux machine, without
// Docker and without images: etcd, kube-apiserver, kube-controller-manager and
// kube-scheduler per cluster, as plain processes on the loopback device.
// Simulated nodes come from kwok; real nodes (as root) from package realnode.
//
// With ClusterOptions.Metrics there is a metrics-server beside a cluster.
//
// It knows processes, certificates, ports, proxies and how to take all of it
// away again. It does not know what Spillway is, but for StartSpillway, which
// runs a spillwayd per cluster: a process beside it or, with Options.InCluster,
// pods in it, as people install them.
//
// A lab belongs to the process that called [Up]. All it makes is noted in a
// state directory and marked (environment variable SPILLWAY_LAB), so that
// [Sweep] and [DownNamed] can remove it when that process was killed.
//
//	l, err := lab.Up(ctx, lab.Options{Clusters: []lab.ClusterOptions{
//		{Name: "east", Simulated: []lab.NodeGroup{{Count: 2}}},
//		{Name: "west", Simulated: []lab.NodeGroup{{Count: 5}}},
//	}})
//	if err != nil { … }
//	defer l.Down(context.Background())
//	client := kubernetes.NewForConfigOrDie(l.Cluster("east").Config())
//
// The first use builds the binaries, which takes minutes; they are cached by
// content and shared by all checkouts, see [Binary].
package lab
