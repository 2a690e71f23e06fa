package install

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/spillway-dev/spillway/charts"
	"github.com/spillway-dev/spillway/e2e/footprint"
	"github.com/spillway-dev/spillway/e2e/lab"
)

// bed is one cluster with simulated nodes and the command line: enough for what install, upgrade, rollback and uninstall write.
type bed struct {
	t       *testing.T
	cluster *lab.Cluster
	program string
	config  string // the kubeconfig
	kube    kubernetes.Interface
}

// said is what the commands print with -o json.
type said struct {
	OK       bool
	Changed  bool
	Revision int
	Gateways []string
	Remains  []string
	Error    struct{ Message, Action string }
}

func newBed(t *testing.T) *bed {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	chart, err := charts.Load()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := build(t.Context(), chart.AppVersion(), folder); err != nil {
		t.Fatal(err)
	}
	l, err := lab.Up(t.Context(), lab.Options{Clusters: []lab.ClusterOptions{{Name: "east", Simulated: []lab.NodeGroup{{Count: 3}}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	b := &bed{t: t, cluster: l.Cluster("east"), program: filepath.Join(folder, "spillway"), config: l.Kubeconfig()}
	if b.kube, err = kubernetes.NewForConfig(b.cluster.Config()); err != nil {
		t.Fatal(err)
	}
	return b
}

// run runs a command with -o json and gives what it printed.
func (b *bed) run(args ...string) (result said, steps string) {
	b.t.Helper()
	var out, errs bytes.Buffer
	args = append(args, "-o", "json", "--kubeconfig", b.config, "--context", b.cluster.Name())
	cmd := exec.CommandContext(b.t.Context(), b.program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	began := time.Now()
	err := cmd.Run()
	b.t.Logf("spillway %s took %.1f s", strings.Join(args[:len(args)-6], " "), time.Since(began).Seconds())
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &result); err != nil {
			b.t.Fatalf("%s: %v\n%s", args, err, &out)
		}
	}
	if (err == nil) != result.OK {
		b.t.Fatalf("%s: exit %v, but ok is %t\n%s", args, err, result.OK, &errs)
	}
	return result, errs.String()
}

// must is run for what has to succeed.
func (b *bed) must(args ...string) said {
	b.t.Helper()
	result, steps := b.run(args...)
	if !result.OK {
		b.t.Fatalf("spillway %s:\n%s", args, steps)
	}
	return result
}

func (b *bed) objects() footprint.Footprint {
	b.t.Helper()
	f, err := footprint.OfCluster(b.t.Context(), b.cluster.Config())
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

// versions are the resource versions of what install writes: to write nothing leaves them as they are.
func (b *bed) versions() map[string]string {
	b.t.Helper()
	versions := map[string]string{}
	note := func(kind string, list metav1.ObjectMeta) { versions[kind+" "+list.Name] = list.ResourceVersion }
	ctx, all := b.t.Context(), metav1.ListOptions{}
	secrets, err := b.kube.CoreV1().Secrets("spillway-system").List(ctx, all)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, o := range secrets.Items {
		note("secret", o.ObjectMeta)
	}
	roles, err := b.kube.RbacV1().ClusterRoles().List(ctx, all)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, o := range roles.Items {
		note("clusterrole", o.ObjectMeta)
	}
	classes, err := b.kube.StorageV1().StorageClasses().List(ctx, all)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, o := range classes.Items {
		note("storageclass", o.ObjectMeta)
	}
	return versions
}

// TestCommand goes through the life of an installation at a real API server.
func TestCommand(t *testing.T) {
	b := newBed(t)
	before := b.objects()
	if result := b.must("uninstall", "--yes"); result.Changed {
		t.Error("uninstalling nothing changed something")
	}
	if first := b.must("install", "--dry-run"); first.Changed || len(footprint.Diff(before, b.objects())) > 0 {
		t.Errorf("the dry run changed something: %v", footprint.Diff(before, b.objects()))
	}
	first := b.must("install", "--no-wait")
	if !first.Changed || first.Revision != 1 || len(first.Gateways) != 2 {
		t.Errorf("first installation: %+v", first)
	}
	t.Run("SecondChangesNothing", b.secondChangesNothing)
	t.Run("MendsWhatIsMissing", b.mendsWhatIsMissing)
	t.Run("RefusesWrongValues", b.refusesWrongValues)
	t.Run("UpgradeAndBack", b.upgradeAndBack)
	t.Run("UninstallLeavesNothing", func(t *testing.T) { b.uninstallLeavesNothing(t, before) })
	b.must("install", "--no-wait", "--no-tunnel")
	t.Run("UninstallOfHalf", func(t *testing.T) { b.uninstallOfHalf(t, before) })
}

func (b *bed) secondChangesNothing(t *testing.T) {
	had := b.versions()
	second := b.must("install", "--no-wait")
	if second.Changed || second.Revision != 1 || len(second.Gateways) != 0 {
		t.Errorf("second installation: %+v", second)
	}
	for name, version := range b.versions() {
		if had[name] != version {
			t.Errorf("%s was written: %s, then %s", name, had[name], version)
		}
	}
}

func (b *bed) mendsWhatIsMissing(t *testing.T) {
	if err := b.kube.RbacV1().ClusterRoles().Delete(t.Context(), "spillway-tenant", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if again := b.must("install", "--no-wait"); !again.Changed || again.Revision != 2 {
		t.Errorf("mending: %+v", again)
	}
	if _, err := b.kube.RbacV1().ClusterRoles().Get(t.Context(), "spillway-tenant", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

func (b *bed) refusesWrongValues(t *testing.T) {
	had := b.versions()
	_, words := b.run("upgrade", "--no-wait", "--set", "node.enabled=perhaps", "--set", "controller.replicaz=3")
	for _, want := range []string{"2 values", "node.enabled: ", "controller: ", "replicaz"} {
		if !strings.Contains(words, want) {
			t.Errorf("%q is not said:\n%s", want, words)
		}
	}
	if len(b.versions()) != len(had) {
		t.Error("something was made")
	}
}

func (b *bed) upgradeAndBack(t *testing.T) {
	b.must("upgrade", "--no-wait", "--set", "controller.replicas=3")
	b.must("upgrade", "--no-wait", "--set", "node.httpPort=9641", "--set", "crds.install=true")
	replicas := func() int32 {
		d, err := b.kube.AppsV1().Deployments("spillway-system").Get(t.Context(), "spillway-controller", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return *d.Spec.Replicas
	}
	if n := replicas(); n != 3 {
		t.Errorf("an upgrade forgot a value of the release: %d replicas", n)
	}
	b.must("rollback", "--no-wait", "--revision", "1")
	if n := replicas(); n != 2 {
		t.Errorf("after going back to revision 1: %d replicas", n)
	}
}

func (b *bed) uninstallLeavesNothing(t *testing.T, before footprint.Footprint) {
	if result := b.must("uninstall", "--yes"); !result.Changed {
		t.Errorf("uninstall: %+v", result)
	}
	for _, words := range footprint.Diff(before, b.objects()) {
		t.Error(words)
	}
	if result := b.must("uninstall", "--yes"); result.Changed {
		t.Error("the second run changed something")
	}
}

// uninstallOfHalf: Helm's own record is gone, and so are a kind and some objects.
func (b *bed) uninstallOfHalf(t *testing.T, before footprint.Footprint) {
	ctx := t.Context()
	if err := b.kube.CoreV1().Secrets("spillway-system").DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "owner=helm"}); err != nil {
		t.Fatal(err)
	}
	if err := b.kube.Discovery().RESTClient().Delete().AbsPath("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/migrations.spillway.dev").Do(ctx).Error(); err != nil {
		t.Fatal(err)
	}
	if err := b.kube.RbacV1().ClusterRoles().Delete(ctx, "spillwayd", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.must("uninstall", "--yes")
	for _, words := range footprint.Diff(before, b.objects()) {
		t.Error(words)
	}
}
