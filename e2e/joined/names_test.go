package joined

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// forwarder is where nodes answer pods of tenants.
const forwarder = "169.254.83.53"

// TestNamesOfHomeRenamed: where a namespace has another name than at home, a twin finds everything under the names of home,
// and its resolver's configuration looks as at home; the provider's own pods find what is theirs.
func TestNamesOfHomeRenamed(t *testing.T) {
	w := theWorld(t)
	ns := w.namespace(t, "front")
	home, away := w.pods(t, ns, "home", "", 1)[0], w.pods(t, ns, "front", west, 1)[0]
	remote := w.remoteNamespace(t, west, ns)
	if remote == ns {
		t.Fatalf("namespace %s is called %s at %s too", ns, remote, west)
	}
	w.headless(t, ns)
	front := w.serviceAt(t, west, remote, "front")
	ptr, err := dns.ReverseAddr(front)
	if err != nil {
		t.Fatal(err)
	}
	full := "front." + ns + ".svc.cluster.local."
	wants := []struct {
		kind       uint16
		name, want string
	}{
		{dns.TypeA, "front", full + " A " + front},
		{dns.TypeA, "front." + ns, full + " A " + front},
		{dns.TypeA, strings.TrimSuffix(full, "."), full + " A " + front},
		{dns.TypeA, full, full + " A " + front},
		{dns.TypeA, "db-0.db", "db-0.db." + ns + ".svc.cluster.local. A " + w.twin(t, remote, "db-0").Status.PodIP},
		{dns.TypeSRV, "_port._tcp.db", "_port._tcp.db." + ns + ".svc.cluster.local. SRV 0 100 7000 db-0.db." + ns + ".svc.cluster.local."},
		{dns.TypePTR, ptr, ptr + " PTR " + full},
		{dns.TypeA, "front." + remote + ".svc.cluster.local.", "front." + remote + ".svc.cluster.local. A " + front},
	}
	for _, row := range wants {
		took := w.finds(t, away, row.kind, row.name, row.want)
		t.Logf("%s is %s after %s", row.name, row.want, round(took))
	}
	if got := away.call(call{Proto: "lookup", Name: "none", Kind: dns.TypeA, Resolv: away.resolv()}); !strings.Contains(got.Error, "NXDOMAIN") {
		t.Errorf("a Service that is not there: %+v", got)
	}
	if here, there := home.searches(t), away.searches(t); !slices.Equal(there, here[:min(len(here), len(there))]) {
		t.Errorf("a twin searches %q, its pod at home %q", there, here)
	}
	w.ownNames(t, ns, w.twin(t, remote, away.pod).Spec.NodeName, "front."+ns+".svc.cluster.local.")

	node := w.twin(t, remote, away.pod).Spec.NodeName
	if err := w.agents[node].kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.agents[node].start(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Who asks while nobody listens is told so at first, and then, as the kernel tells no more than a few, has to wait in vain.
	took := w.finds(t, away, dns.TypeA, "front", full+" A "+front)
	t.Logf("the agent of %s died and began again: answers after %s", node, round(took))
}

// headless makes a Service without address and a pod of it that runs at west.
func (w *world) headless(t *testing.T, ns string) {
	t.Helper()
	kube := w.sides[east].kube
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "db"}, Spec: corev1.ServiceSpec{
		ClusterIP: corev1.ClusterIPNone, Selector: map[string]string{"app": "db"}, Ports: []corev1.ServicePort{{Name: "port", Port: podPort}},
	}}
	if _, err := kube.CoreV1().Services(ns).Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := appPod("db-0", "db")
	pod.Spec.Hostname, pod.Spec.Subdomain = "db-0", "db"
	pod.Spec.NodeSelector = map[string]string{"kubernetes.io/hostname": "spillway-" + west}
	pod.Spec.Tolerations = []corev1.Toleration{{Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpExists}}
	if _, err := kube.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// twin waits until the twin of a pod runs at west.
func (w *world) twin(t *testing.T, remote, name string) *corev1.Pod {
	t.Helper()
	var pod *corev1.Pod
	eventually(t, time.Minute, "twin "+name+" runs", func(ctx context.Context) (err error) {
		if pod, err = w.sides[west].kube.CoreV1().Pods(remote).Get(ctx, name, metav1.GetOptions{}); err == nil && pod.Status.PodIP == "" {
			err = fmt.Errorf("phase %s", pod.Status.Phase)
		}
		return err
	})
	return pod
}

func (w *world) serviceAt(t *testing.T, cluster, namespace, name string) string {
	t.Helper()
	var svc *corev1.Service
	eventually(t, soon, "Service "+name+" is at "+cluster, func(ctx context.Context) (err error) {
		svc, err = w.sides[cluster].kube.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
		return err
	})
	return svc.Spec.ClusterIP
}

// ownNames has a pod of the provider, in a namespace called as one of the tenant at its home, ask the forwarder of its node.
func (w *world) ownNames(t *testing.T, ns, node, name string) {
	t.Helper()
	kube := w.sides[west].kube
	_, err := kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kube.CoreV1().Namespaces().Delete(context.Background(), ns, metav1.DeleteOptions{}) })
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "front"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: podPort}}}}
	if svc, err = kube.CoreV1().Services(ns).Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the ServiceAccount of the provider's namespace", func(ctx context.Context) error {
		_, err := kube.CoreV1().ServiceAccounts(ns).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	pod := appPod(ns+"-own", "own")
	pod.Spec.NodeName = node
	if _, err := kube.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	own := enter(t, pod.Name, node, netip.MustParseAddr(w.twin(t, ns, pod.Name).Status.PodIP))
	want := name + " A " + svc.Spec.ClusterIP
	w.finds(t, own, dns.TypeA, name, want) // by the cluster's DNS
	began := time.Now()
	got := own.call(call{Proto: "lookup", Name: name, Kind: dns.TypeA, To: netip.MustParseAddrPort(forwarder + ":53")})
	if got.Source != want {
		t.Errorf("a pod of the provider itself: %s is %+v, want %s", name, got, want)
	}
	t.Logf("a pod of the provider itself asked the forwarder: %s after %s", got.Source, round(time.Since(began)))
}

// finds waits until a pod gets this answer as its own resolver's configuration has it ask.
func (w *world) finds(t *testing.T, c *caller, kind uint16, name, want string) time.Duration {
	t.Helper()
	return eventually(t, soon, c.pod+" finds "+name, func(context.Context) error {
		if got := c.call(call{Proto: "lookup", Name: name, Kind: kind, Resolv: c.resolv()}); got.Source != want {
			return fmt.Errorf("%s is %q, want %q: %s", name, got.Source, want, got.Error)
		}
		return nil
	})
}

// resolv is the file of the pod's resolver, as the machine sees it.
func (c *caller) resolv() string { return "/proc/" + strconv.Itoa(c.pid) + "/root/etc/resolv.conf" }

func (c *caller) searches(t *testing.T) []string {
	t.Helper()
	config, err := dns.ClientConfigFromFile(c.resolv())
	if err != nil {
		text, _ := os.ReadFile(c.resolv())
		t.Fatalf("%v: %s", err, text)
	}
	return config.Search
}

// lookup asks as the pod's resolver would: what the configuration searches, at its first nameserver, or at To.
func (c call) lookup() answered {
	names, at := []string{c.Name}, c.To.String()
	if c.Resolv != "" {
		config, err := dns.ClientConfigFromFile(c.Resolv)
		if err != nil {
			return answered{Error: err.Error()}
		}
		names, at = config.NameList(c.Name), net.JoinHostPort(config.Servers[0], config.Port)
	}
	client, last := dns.Client{Timeout: 5 * time.Second}, ""
	for _, name := range names {
		answer, _, err := client.Exchange((&dns.Msg{}).SetQuestion(name, c.Kind), at)
		if err != nil {
			return answered{Error: fmt.Sprintf("%s at %s: %v", name, at, err)}
		}
		if len(answer.Answer) > 0 {
			fields := strings.Fields(answer.Answer[0].String()) // name, TTL, class, type, data
			return answered{Source: strings.Join(append(fields[:1:1], fields[3:]...), " ")}
		}
		last += name + " " + dns.RcodeToString[answer.Rcode] + ", "
	}
	return answered{Error: last + "at " + at}
}
