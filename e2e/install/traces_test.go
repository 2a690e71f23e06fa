package install

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spillway-dev/spillway/e2e/footprint"
)

// traces are the footprints of a cluster and of its real nodes, by name; that of the cluster has the name "cluster".
type traces map[string]footprint.Footprint

// size is how many things there are in all.
func (t traces) size() (things int) {
	for _, f := range t {
		things += len(f)
	}
	return things
}

// look takes down what there is in a cluster and on its nodes.
func (w *world) look(ctx context.Context, s *side) (traces, error) {
	out := traces{}
	f, err := footprint.OfCluster(ctx, s.Config())
	if err != nil {
		return nil, err
	}
	out["cluster"] = f
	for _, node := range s.nodes {
		f, err := footprint.OfNode(ctx, func(ctx context.Context, args ...string) (*exec.Cmd, error) {
			return w.lab.RealNodes().Command(ctx, node, args...)
		})
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", node, err)
		}
		out[node] = f.Without(ofOthers)
	}
	return out, nil
}

// differences are in words what is not in a cluster, or on its nodes, as it was before.
func differences(before, now traces) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(before)) {
		for _, words := range footprint.Diff(before[name], now[name]) {
			out = append(out, name+": "+words)
		}
	}
	return out
}

// asBefore waits until a cluster and its nodes are as they were. What kubelets and kube-proxies clear up after pods takes its time.
func (w *world) asBefore(t *testing.T, s *side, before traces) {
	t.Helper()
	var now traces
	took := eventually(t, 2*time.Minute, s.Name()+" is as it was before the installation", func(ctx context.Context) (err error) {
		if now, err = w.look(ctx, s); err != nil {
			return err
		}
		if d := differences(before, now); len(d) > 0 {
			return fmt.Errorf("%d differences:\n%s", len(d), strings.Join(d[:min(len(d), 60)], "\n"))
		}
		return nil
	})
	t.Logf("%s: %d objects in the cluster, %d things on %d nodes: all as before the installation (looked at for %.1f s)",
		s.Name(), len(now["cluster"]), now.size()-len(now["cluster"]), len(s.nodes), took.Seconds())
}

// lookAtAll takes down both clusters as they are before anything is installed.
func (w *world) lookAtAll(ctx context.Context) (map[string]traces, error) {
	out := map[string]traces{}
	for _, s := range w.sides() {
		now, err := w.look(ctx, s)
		if err != nil {
			return nil, err
		}
		out[s.Name()] = now
	}
	return out, nil
}

// ofOthers says whether a thing is kept by others than Spillway: what comes with the first pod, or chains of kube-proxy, which follow
// from Services (these are compared) and stay up to an hour, until its next full pass, when a Service has gone.
func ofOthers(name string) bool {
	return ofFirstPod(name) || strings.Contains(name, " kube-proxy chain service-") || strings.Contains(name, " kube-proxy chain endpoint-")
}

// ofFirstPod says whether a thing comes to a node with the first pod of anybody and then stays: the bridge of the container network, folders of
// containerd.
func ofFirstPod(name string) bool {
	const containerd = "file /run/containerd/"
	for _, part := range []string{
		" cni0", "/var/lib/cni", "/var/lib/cni/results", "file /run/netns", "mount /run/netns",
		containerd + "io.containerd.grpc.v1.cri/containers", containerd + "io.containerd.grpc.v1.cri/sandboxes",
		containerd + "io.containerd.runtime.v2.task/k8s.io", containerd + "runc", containerd + "runc/k8s.io", containerd + "s",
	} {
		if strings.HasSuffix(name, part) || strings.Contains(name, part+" ") || strings.Contains(name, part+"/networks") {
			return true
		}
	}
	return false
}
