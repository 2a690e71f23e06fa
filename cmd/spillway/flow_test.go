package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// pair is two clusters in memory, home and cloud, and a kubeconfig for both.
type pair struct {
	home, cloud *apiServer
	kubeconfig  string
}

func newPair(t *testing.T) *pair {
	p := &pair{home: newAPIServer(t, "id-home"), cloud: newAPIServer(t, "id-cloud"), kubeconfig: filepath.Join(t.TempDir(), "config")}
	config := clientcmdapi.NewConfig()
	for name, s := range map[string]*apiServer{"home": p.home, "cloud": p.cloud, "Cloud_2": p.cloud} {
		config.Clusters[name] = &clientcmdapi.Cluster{Server: s.URL, CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})}
		config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: testToken}
		config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	}
	config.AuthInfos["expired"] = &clientcmdapi.AuthInfo{Token: "old"}
	config.Contexts["expired"] = &clientcmdapi.Context{Cluster: "cloud", AuthInfo: "expired"}
	config.Clusters["dead"] = &clientcmdapi.Cluster{Server: "https://127.0.0.1:1"}
	config.Contexts["dead"] = &clientcmdapi.Context{Cluster: "dead", AuthInfo: "cloud"}
	config.CurrentContext = "home"
	if err := clientcmd.WriteToFile(*config, p.kubeconfig); err != nil {
		t.Fatal(err)
	}
	return p
}

// open makes clients for one of the clusters.
func (p *pair) open(t *testing.T, context string) *cluster {
	c, err := open(access{p.kubeconfig, context}, "cluster")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// runControllers works in both clusters until the test ends.
func (p *pair) runControllers(t *testing.T) {
	runController(t, p.open(t, "home"), "")
	runController(t, p.open(t, "cloud"), "")
}

// run executes a command line on the kubeconfig of p.
func (p *pair) run(t *testing.T, args ...string) (code int, out, errs string) {
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), append([]string{"spillway"}, append(args, "--kubeconfig", p.kubeconfig)...), terminal{out: &stdout, err: &stderr})
	return code, stdout.String(), stderr.String()
}

// must is run for what has to succeed.
func (p *pair) must(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := p.run(t, args...)
	if code != 0 {
		t.Fatalf("spillway %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

func TestPeer_FirstTime(t *testing.T) {
	p := newPair(t)
	p.runControllers(t)
	out := p.must(t, "peer", "--remote-context", "cloud", "--share", "80%", "--share-resources", "cpu=4", "--node-labels", "cost=low")
	for _, want := range []string{"✓ provider: Peering home", "✓ consumer: credential", "✓ consumer: NodeReady", "✓ consumer: Ready", "spillway-cloud"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	home, cloud := p.open(t, "home"), p.open(t, "cloud")
	atCloud, err := cloud.peerings.Get(t.Context(), "home", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(int32(80), atCloud.Spec.Share.Percent); diff != "" || atCloud.Spec.ClusterID != "id-home" {
		t.Errorf("provider's Peering: %+v", atCloud.Spec)
	}
	atHome, err := home.peerings.Get(t.Context(), "cloud", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := v1alpha1.PeeringSpec{
		ClusterID: "id-cloud",
		API:       &v1alpha1.APIEndpoint{Server: cloud.server, CABundle: cloud.caBundle, SecretName: "peering-cloud", TenantNamespace: "spillway-tenant-home", PeeringName: "home"},
		Borrow:    &v1alpha1.Borrow{NodeName: "spillway-cloud", Labels: map[string]string{"cost": "low"}},
	}
	if diff := cmp.Diff(want, atHome.Spec); diff != "" {
		t.Errorf("consumer's Peering (-want +got):\n%s", diff)
	}
	secret, err := home.kube.CoreV1().Secrets(v1alpha1.SystemNamespace).Get(t.Context(), "peering-cloud", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if string(secret.Data["token"]) != "renew-me" || secret.OwnerReferences[0].UID != atHome.UID || secret.Labels[labelManagedBy] != managedBy {
		t.Errorf("credential: %+v", secret)
	}
}

func TestPeer_RepeatedWritesNothing(t *testing.T) {
	p := newPair(t)
	p.runControllers(t)
	p.must(t, "peer", "--remote-context", "cloud", "--share", "80", "--node-labels", "cost=low")
	p.home.written()
	p.cloud.written()
	out := p.must(t, "peer", "--remote-context", "cloud")
	if n := strings.Count(out, unchanged); n != 3 {
		t.Errorf("%d steps unchanged, want 3:\n%s", n, out)
	}
	checkUnwritten(t, p)
}

func TestPeer_BothWays(t *testing.T) {
	p := newPair(t)
	p.runControllers(t)
	p.must(t, "peer", "--remote-context", "cloud")
	p.must(t, "peer", "--context", "cloud", "--remote-context", "home")
	for context, name := range map[string]string{"home": "cloud", "cloud": "home"} {
		peering, err := p.open(t, context).peerings.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if roleOf(peering) != roleBoth {
			t.Errorf("%s in %s is %s, want both", name, context, roleOf(peering))
		}
	}
	p.must(t, "unpeer", "cloud", "--borrow-only")
	for context, want := range map[string]string{"home": roleShare, "cloud": roleBorrow} {
		list, err := p.open(t, context).peerings.List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != 1 {
			t.Fatalf("Peerings of %s: %v %v", context, list, err)
		}
		if got := roleOf(&list.Items[0]); got != want {
			t.Errorf("after unpeer --borrow-only %s is %s, want %s", context, got, want)
		}
	}
}

func TestPeer_JSON(t *testing.T) {
	p := newPair(t)
	p.runControllers(t)
	var result outcome
	if err := json.Unmarshal([]byte(p.must(t, "peer", "--remote-context", "cloud", "-o", "json")), &result); err != nil {
		t.Fatal(err)
	}
	if !result.OK || !result.Changed || result.Consumer.Peering != "cloud" || result.Provider.ClusterID != "id-cloud" || !slices.Equal(result.Nodes, []string{"spillway-cloud"}) {
		t.Errorf("result: %+v", result)
	}
}

func TestPeer_NeverAuthenticated(t *testing.T) {
	p := newPair(t)
	runController(t, p.open(t, "home"), v1alpha1.ReasonCredentialRejected)
	runController(t, p.open(t, "cloud"), "")
	code, out, errs := p.run(t, "peer", "--remote-context", "cloud", "--timeout", "1s")
	if code != exitFailed || !strings.Contains(out, "✗ consumer: Authenticated") || !strings.Contains(errs, "Authenticated is False (CredentialRejected)") ||
		!strings.Contains(errs, "running `spillway peer` again") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
}

// addPod puts a pod on the virtual node; owner empty: it has no controller.
func (p *pair) addPod(name, owner string) {
	pod := map[string]any{
		"metadata": map[string]any{"name": name, "namespace": "shop"},
		"spec":     map[string]any{"nodeName": "spillway-cloud", "containers": []any{map[string]any{"name": "a", "resources": map[string]any{"requests": map[string]any{"cpu": "500m"}}}}},
		"status":   map[string]any{"phase": string(corev1.PodRunning)},
	}
	if owner != "" {
		pod["metadata"].(map[string]any)["ownerReferences"] = []any{map[string]any{"kind": "ReplicaSet", "name": owner, "controller": true}}
	}
	p.home.put("/api/v1/namespaces/shop/pods/"+name, pod)
}

func TestUnpeer_LeavesNothing(t *testing.T) {
	p := newPair(t)
	p.runControllers(t)
	before := [][]string{p.home.paths(), p.cloud.paths()}
	p.must(t, "peer", "--remote-context", "cloud")
	p.addPod("web-1", "web")
	p.addPod("bare", "")
	out := p.must(t, "unpeer", "--dry-run")
	for _, want := range []string{"1 pod will be deleted and made again elsewhere by their controllers: ReplicaSet shop/web (1)", "1 pod without a controller will be lost: shop/bare", "nothing was changed"} {
		if !strings.Contains(out, want) {
			t.Errorf("dry run lacks %q:\n%s", want, out)
		}
	}
	out = p.must(t, "unpeer", "cloud")
	if !strings.Contains(out, "nothing is left") || !strings.Contains(out, `that of context "Cloud_2"`) {
		t.Errorf("unpeer says:\n%s", out)
	}
	if diff := cmp.Diff(before, [][]string{p.home.paths(), p.cloud.paths()}); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}

func TestUnpeer_DeadProvider(t *testing.T) {
	for name, args := range map[string][]string{"found in kubeconfig": {"unpeer"}, "named": {"unpeer", "--remote-context", "cloud"}} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			before := p.home.paths()
			runController(t, p.open(t, "home"), "")
			runController(t, p.open(t, "cloud"), "")
			p.must(t, "peer", "--remote-context", "cloud")
			p.cloud.CloseClientConnections()
			p.cloud.Close()
			out := p.must(t, args...)
			for _, want := range []string{"home is clean", "The provider still has its Peering home", "spillway unpeer --context"} {
				if !strings.Contains(out, want) {
					t.Errorf("output lacks %q:\n%s", want, out)
				}
			}
			if left := len(p.home.paths()) - len(before); left != 2 { // system namespace and Lease
				t.Errorf("home has %v", p.home.paths())
			}
		})
	}
}

func TestUnpeer_AtProviderAlone(t *testing.T) {
	p := newPair(t)
	p.runControllers(t)
	p.must(t, "peer", "--remote-context", "cloud")
	out := p.must(t, "unpeer", "--context", "cloud", "home")
	if !strings.Contains(out, "The consumer still has its Peering") {
		t.Errorf("unpeer says:\n%s", out)
	}
	if list, err := p.open(t, "cloud").peerings.List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) != 0 {
		t.Errorf("provider has %v %v", list, err)
	}
}

func TestUnpeer_NoController(t *testing.T) {
	p := newPair(t)
	t.Run("peer", func(t *testing.T) { p.runControllers(t); p.must(t, "peer", "--remote-context", "cloud") })
	p.addPod("web-1", "web")
	for _, s := range []*apiServer{p.home, p.cloud} {
		s.put("/apis/coordination.k8s.io/v1/namespaces/spillway-system/leases/spillwayd", map[string]any{
			"metadata": map[string]any{"name": "spillwayd"}, "spec": map[string]any{"renewTime": "2020-01-01T00:00:00.000000Z", "leaseDurationSeconds": 15}})
		s.written()
	}
	code, _, errs := p.run(t, "unpeer", "cloud")
	if code != exitFailed || !strings.Contains(errs, "no spillwayd controller is running in the consumer") || !strings.Contains(errs, "--force") {
		t.Errorf("exit %d: %s", code, errs)
	}
	checkUnwritten(t, p)
	p.must(t, "unpeer", "cloud", "--force")
	for _, s := range []*apiServer{p.home, p.cloud} {
		for _, path := range s.paths() {
			if strings.Contains(path, "/peerings/") || strings.Contains(path, "/nodes/") || strings.Contains(path, "/pods/") || strings.HasSuffix(path, "/peering-cloud") {
				t.Errorf("--force left %s", path)
			}
		}
	}
}

// checkUnwritten fails if anything but a status, which is the controllers' to write, was written since the last look.
func checkUnwritten(t *testing.T, p *pair) {
	t.Helper()
	for _, s := range []*apiServer{p.home, p.cloud} {
		if writes := slices.DeleteFunc(s.written(), func(w string) bool { return strings.HasSuffix(w, "/status") }); len(writes) > 0 {
			t.Errorf("something was written: %v", writes)
		}
	}
}
