package joined

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestRebootEveryNode: each node of both clusters loses its power and boots again, one after the other; traffic returns by
// itself in less than 10 s from when the node is Ready.
func TestRebootEveryNode(t *testing.T) {
	w := theWorld(t)
	ns := w.namespace(t, "home", "away")
	home := w.pods(t, ns, "home", "", 2)
	away := w.pods(t, ns, "away", west, 2)
	w.opened(t, home, away)
	for _, name := range []string{east, west} {
		for _, node := range w.sides[name].nodes {
			role := "an ordinary node"
			if w.holder(t, name) == node {
				role = "the active gateway"
			}
			w.reboot(t, name, node)
			ready := time.Now()
			if err := w.agents[node].start(t.Context()); err != nil { // where it is a DaemonSet, the kubelet does that
				t.Fatal(err)
			}
			tunnel := eventually(t, time.Minute, "the tunnel is up", func(ctx context.Context) error {
				if err := w.sides[east].is(true, west)(ctx); err != nil {
					return err
				}
				return w.sides[west].is(true, east)(ctx)
			})
			home, away = w.again(t, ns, home), w.again(t, ns, away)
			for _, h := range home {
				for _, a := range away {
					w.meet(t, h, a)
				}
			}
			took := time.Since(ready)
			t.Logf("%s, %s of %s, rebooted: tunnel up %s after the node is Ready, all pairs of pods reach each other after %s", node, role, name, round(tunnel), round(took))
			if took > 10*time.Second {
				t.Errorf("%s: traffic returned after %s, want 10 s at most", node, round(took))
			}
		}
	}
}

// reboot returns when the node's kubelet has begun to renew its Lease again, and the node is Ready.
func (w *world) reboot(t *testing.T, cluster, node string) {
	t.Helper()
	kube := w.sides[cluster].kube
	if err := w.sides[cluster].Kill(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	before, err := kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(t.Context(), node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.sides[cluster].Restart(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, node+" is Ready", func(ctx context.Context) error {
		lease, err := kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !before.Spec.RenewTime.Before(lease.Spec.RenewTime) {
			return errors.New("its Lease is not renewed")
		}
		n, err := kube.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("conditions %v", n.Status.Conditions)
	})
}

// again enters pods anew whose processes went with their node, when they run again; their addresses are new.
func (w *world) again(t *testing.T, namespace string, old []*caller) []*caller {
	t.Helper()
	out := make([]*caller, len(old))
	for i, c := range old {
		out[i] = c
		if syscall.Kill(c.pid, 0) == nil {
			continue
		}
		var addr netip.Addr
		eventually(t, time.Minute, "pod "+c.pod+" runs again", func(ctx context.Context) error {
			pod, err := w.sides[east].kube.CoreV1().Pods(namespace).Get(ctx, c.pod, metav1.GetOptions{})
			if err != nil {
				return err
			}
			pid := podPID(c.pod)
			own, err := exec.CommandContext(ctx, "nsenter", "-t", fmt.Sprint(pid), "--net", "ip", "-4", "-o", "addr", "show", "eth0").CombinedOutput()
			if pid == 0 || err != nil {
				return fmt.Errorf("process %d: %v %s", pid, err, own)
			}
			if addr, err = netip.ParseAddr(pod.Status.PodIP); err == nil && !strings.Contains(string(own), fmt.Sprintf(".%d/", addr.As4()[3])) {
				err = fmt.Errorf("status says %s, the pod has %s", addr, own) // the last byte is alike in every alias
			}
			return err
		})
		out[i] = enter(t, c.pod, c.node, addr)
	}
	return out
}

// meet waits until two pods reach each other both ways.
func (w *world) meet(t *testing.T, home, away *caller) {
	t.Helper()
	w.opened(t, []*caller{home}, []*caller{away})
	back := call{Proto: "tcp", To: netip.AddrPortFrom(w.seen(t, west, east, home.addr), podPort), Size: 3000}
	eventually(t, soon, "pods reach each other backwards", func(context.Context) error {
		if a := away.call(back); a.Error != "" {
			return fmt.Errorf("%s → %s: %s", away.pod, home.pod, a.Error)
		}
		return nil
	})
}
