package main

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// runPods stands in for scheduler, kubelet and the twins of pods: servers run, clients end with a result, which says
// something else through the tunnel. A pod named in broken ends with that message.
func (p *pair) runPods(t *testing.T, broken map[string]string) {
	ctx, cancel := context.WithCancel(t.Context())
	c := p.open(t, "home")
	var group sync.WaitGroup
	group.Go(func() {
		_ = follow(ctx, podsOf(c), metav1.ListOptions{}, func(pods map[string]*corev1.Pod) bool {
			for _, pod := range pods {
				if pod.Status.Phase == "" && strings.HasPrefix(pod.Namespace, bedPrefix) {
					p.home.put("/api/v1/namespaces/"+pod.Namespace+"/pods/"+pod.Name, runPod(pod, broken[pod.Name]))
				}
			}
			return false
		})
	})
	t.Cleanup(func() { cancel(); group.Wait() })
}

func runPod(pod *corev1.Pod, broken string) map[string]any {
	pod = pod.DeepCopy()
	pod.Spec.NodeName, pod.Status.PodIP, pod.Status.Phase = "near-1", "10.244.1.7", corev1.PodRunning
	if pod.Spec.NodeSelector[v1alpha1.LabelPeer] != "" {
		pod.Spec.NodeName, pod.Status.PodIP = "spillway-cloud", "100.64.1.9"
	}
	if args := strings.Join(pod.Spec.Containers[0].Args, " "); strings.HasPrefix(args, "netbench run ") {
		pod.Status.Phase = corev1.PodSucceeded
		message := `{"upBitsPerSecond":4e9,"downBitsPerSecond":5e9,"tcp":{"count":9,"medianMicros":100,"p99Micros":200},"udp":{"count":9,"medianMicros":80,"p99Micros":160}}`
		if strings.Contains(args, "100.64.1.9") {
			message = `{"upBitsPerSecond":2e9,"downBitsPerSecond":4.5e8,"tcp":{"count":9,"medianMicros":12000,"p99Micros":20000},"udp":{"count":200,"lost":1,"medianMicros":11900,"p99Micros":16000}}`
		}
		if broken != "" {
			pod.Status.Phase, message = corev1.PodFailed, broken
		}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "netbench", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: message}}}}
	}
	data, _ := json.Marshal(pod)
	var object map[string]any
	_ = json.Unmarshal(data, &object)
	return object
}

// joinedPair is a pair whose networks are joined, with spillwayd's Deployment at home.
func joinedPair(t *testing.T) *pair {
	p := newPair(t)
	p.runControllers(t)
	p.addGateways()
	p.must(t, "peer", "--remote-context", "cloud")
	p.home.put("/apis/apps/v1/namespaces/spillway-system/deployments/spillwayd", map[string]any{
		"metadata": map[string]any{"name": "spillwayd", "namespace": "spillway-system"},
		"spec":     map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "a", "image": "registry.example.org/spillwayd:v1"}}}}},
	})
	return p
}

// leftOfBench are the paths of what a bench left, Services aside, which go with their namespace.
func (p *pair) leftOfBench() []string {
	return slices.DeleteFunc(p.home.paths(), func(path string) bool {
		return !strings.Contains(path, bedPrefix) || strings.Contains(path, "/services/")
	})
}

func TestBench_ThroughAndBeside(t *testing.T) {
	p := joinedPair(t)
	p.runPods(t, nil)
	p.home.written()
	out := p.must(t, "bench", "network", "cloud")
	want := `
From a pod on near-1 to one on spillway-cloud (through the tunnel) and to one on near-1 (beside it):

                         TUNNEL       BESIDE       RATIO
TCP to the peer          2.0 Gbit/s   4.0 Gbit/s   0.50
TCP from the peer        450 Mbit/s   5.0 Gbit/s   0.09
TCP round trip, median   12.0 ms      0.10 ms      120.00
TCP round trip, p99      20.0 ms      0.20 ms      100.00
UDP round trip, median   11.9 ms      0.08 ms      148.75
UDP round trip, p99      16.0 ms      0.16 ms      100.00
UDP lost                 0.5 %        0.0 %        -
`
	if !strings.HasSuffix(out, want) {
		t.Errorf("-want +got:\n%s", cmp.Diff(want, out))
	}
	if left := p.leftOfBench(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	var result benchResult
	if err := json.Unmarshal([]byte(p.must(t, "bench", "network", "-o", "json", "--duration", "1s")), &result); err != nil {
		t.Fatal(err)
	}
	if !result.OK || result.Image != "registry.example.org/spillwayd:v1" || result.Tunnel.Server != "spillway-cloud" || result.Beside.UDP.MedianMicros != 80 {
		t.Errorf("result: %+v", result)
	}
}

func TestBench_CleansUpAfterFailure(t *testing.T) {
	p := joinedPair(t)
	p.runPods(t, map[string]string{"far-server-client": "connect to 100.64.1.9:5201: i/o timeout"})
	code, out, errs := p.run(t, "bench", "network")
	if code != exitFailed || !strings.Contains(errs, "i/o timeout") || !strings.Contains(errs, "spillway doctor cloud") || !strings.Contains(out, "✓ temporary namespace is gone") {
		t.Errorf("exit %d:\n%s%s", code, out, errs)
	}
	if left := p.leftOfBench(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestBench_PodsThatNeverRun(t *testing.T) {
	p := joinedPair(t)
	code, _, errs := p.run(t, "bench", "network", "--timeout", "1s")
	if code != exitFailed || !strings.Contains(errs, "pod near-server did not come so far in time; it is Pending") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if left := p.leftOfBench(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestBench_Refuses(t *testing.T) {
	p := newPair(t)
	p.runControllers(t)
	for _, test := range []struct{ do, want string }{
		{"bench network", "borrows from nobody"},
		{"peer --remote-context cloud", ""},
		{"bench network", `the tunnel of Peering "cloud" is Off`},
		{"bench network --duration 0s", "cannot be measured"},
		{"peer --remote-context cloud --tunnel External", ""},
		{"bench network", "tells which image has spillwayd"},
		{"bench network --context cloud", "borrows from nobody"},
	} {
		code, out, errs := p.run(t, strings.Fields(test.do)...)
		if (code == 0) != (test.want == "") || !strings.Contains(errs, test.want) {
			t.Errorf("%s: exit %d, want %q\n%s%s", test.do, code, test.want, out, errs)
		}
	}
}

func TestDoctor_PodToPod(t *testing.T) {
	for name, test := range map[string]struct {
		broken map[string]string
		want   string
	}{
		"both ways": {nil, "both ways, 12.0 ms there and back"},
		"there":     {map[string]string{"near-client": "i/o timeout"}, "a pod of the consumer does not reach one at the provider"},
		"back":      {map[string]string{"far-client": "i/o timeout"}, "a pod at the provider does not reach one of the consumer"},
	} {
		t.Run(name, func(t *testing.T) {
			p := joinedPair(t)
			p.runPods(t, test.broken)
			_, out, errs := p.run(t, "doctor", "--remote-context", "cloud", "--pods")
			if !strings.Contains(out, test.want) {
				t.Errorf("output lacks %q:\n%s%s", test.want, out, errs)
			}
			if left := p.leftOfBench(); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestBed_PodsAreMadeForTheirPlace(t *testing.T) {
	b := &bed{peering: &v1alpha1.Peering{ObjectMeta: metav1.ObjectMeta{Name: "cloud"}}, image: "x", namespace: "n"}
	far := b.pod(benchPod{name: "far", far: true}).Spec
	if far.NodeSelector[v1alpha1.LabelPeer] != "cloud" || len(far.Tolerations) != 1 || far.Tolerations[0].Key != v1alpha1.TaintVirtualNode {
		t.Errorf("far pod: %+v", far)
	}
	near := b.pod(benchPod{name: "near"}).Spec
	if len(near.Tolerations) != 0 || near.Affinity.PodAntiAffinity == nil {
		t.Errorf("near pod: %+v", near)
	}
	if same := b.pod(benchPod{name: "same", node: "w"}).Spec; same.Affinity.NodeAffinity == nil || same.NodeName != "" {
		t.Errorf("pod for a node: %+v", same)
	}
}

func TestSeenThere(t *testing.T) {
	p := &v1alpha1.Peering{Spec: v1alpha1.PeeringSpec{Tunnel: &v1alpha1.Tunnel{Remote: &v1alpha1.ClusterNetwork{Aliases: []v1alpha1.Alias{
		{Range: "10.244.0.0/16", As: "100.71.0.0/16"}, {Range: "10.9.0.0/20", As: "100.72.16.0/20"}, {Range: "fd00:1::/48", As: "fd00:2::/48"},
	}}}}}
	for in, want := range map[string]string{
		"10.244.3.7": "100.71.3.7", "10.9.14.255": "100.72.30.255", "fd00:1:0:5::9": "fd00:2:0:5::9", "192.0.2.1": "192.0.2.1",
	} {
		if got := seenThere(p, netip.MustParseAddr(in)); got.String() != want {
			t.Errorf("%s is seen as %s, want %s", in, got, want)
		}
	}
}
