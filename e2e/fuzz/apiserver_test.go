package fuzz

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	goruntime "runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/reflector/translate"
)

const (
	// enoughAccepted is how many percent of the pods home's API server must take: what it refuses tests nothing.
	enoughAccepted = 90

	// perCPU is how many pods are on their way at once, for each processor: one waits while another is worked on.
	perCPU = 4
)

// TestAPIServer creates each pod as a dry run at home, and its twin as a dry run in the tenant's namespace.
func TestAPIServer(t *testing.T) {
	o := theOptions(t)
	cluster, kube := startCluster(t)
	run := &run{options: o, kube: kube, denied: deniedFields(t), refusals: map[string]*refusal{}}
	begun, before := time.Now(), processorTime(t, cluster)
	run.all(t.Context())
	t.Logf("%d pods and %d twins in %s, of which the API server computed %s", o.pods, run.accepted.Load(),
		time.Since(begun).Round(time.Millisecond), (processorTime(t, cluster) - before).Round(time.Millisecond))
	if run.accepted.Load()*100 < int64(o.pods)*enoughAccepted {
		t.Errorf("home takes %d of %d pods only", run.accepted.Load(), o.pods)
	}
	for _, r := range run.mostFrequent() {
		t.Logf("home refuses %d, as pod %d: %s", r.count, r.pod, r.words)
	}
	t.Logf("this API server does not keep %q: TestRules tries them", run.notKept())
	for _, fault := range run.faults {
		t.Error(fault)
	}
}

// startCluster starts a cluster without nodes that has what the pods name.
func startCluster(t *testing.T) (*lab.Cluster, kubernetes.Interface) {
	t.Helper()
	l, err := lab.Up(t.Context(), lab.Options{Clusters: []lab.ClusterOptions{{Name: "fuzz"}}, Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	config := l.Cluster("fuzz").Config()
	config.ContentType, config.WarningHandler = runtime.ContentTypeProtobuf, rest.NoWarnings{}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := furnish(t.Context(), kube); err != nil {
		t.Fatal(err)
	}
	return l.Cluster("fuzz"), kube
}

// processorTime returns what the API server has used so far.
func processorTime(t *testing.T, cluster *lab.Cluster) time.Duration {
	t.Helper()
	usage, err := cluster.Component(lab.APIServer).Usage()
	if err != nil {
		t.Fatal(err)
	}
	return usage.CPU
}

// furnish makes what pods name and an API server looks up, and waits for what controllers make.
func furnish(ctx context.Context, kube kubernetes.Interface) error {
	var errs []error
	for _, name := range []string{homeNamespace, tenantNamespace} {
		_, err := kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		errs = append(errs, err)
	}
	_, err := kube.CoreV1().ServiceAccounts(homeNamespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: accountName}}, metav1.CreateOptions{})
	errs = append(errs, err)
	_, err = kube.SchedulingV1().PriorityClasses().Create(ctx, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: priorityClass}, Value: priorityValue}, metav1.CreateOptions{})
	errs = append(errs, err)
	_, err = kube.NodeV1().RuntimeClasses().Create(ctx, &nodev1.RuntimeClass{
		ObjectMeta: metav1.ObjectMeta{Name: runtimeClass}, Handler: "sandbox",
		Overhead: &nodev1.Overhead{PodFixed: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(overheadCPU)}},
	}, metav1.CreateOptions{})
	if err := errors.Join(append(errs, err)...); err != nil {
		return fmt.Errorf("furnish the cluster: %w", err)
	}
	return wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		for _, namespace := range []string{homeNamespace, tenantNamespace} {
			if _, err := kube.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{}); err != nil {
				return false, nil
			}
		}
		class := runtimeClass
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: homeNamespace, Name: "first"}, Spec: corev1.PodSpec{
			Containers:         []corev1.Container{{Name: "main", Image: "image"}},
			ServiceAccountName: accountName, PriorityClassName: priorityClass, RuntimeClassName: &class,
		}}
		_, err := create(ctx, kube, pod) // refused until the caches of the admission follow
		return err == nil, nil
	})
}

func create(ctx context.Context, kube kubernetes.Interface, pod *corev1.Pod) (*corev1.Pod, error) {
	return kube.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldManager: translate.FieldManager})
}

// refusal is what an API server says about some pods.
type refusal struct {
	words string
	pod   uint64 // one of them
	count int
}

// run is the work of one test.
type run struct {
	options
	kube     kubernetes.Interface
	denied   map[string]bool
	next     atomic.Uint64
	accepted atomic.Int64
	sent     sync.Map // keys of the fields that pods have
	kept     sync.Map // keys of the fields that they have when home's API server returns them

	mu       sync.Mutex // guards what follows
	refusals map[string]*refusal
	faults   []string
}

// all tries every pod.
func (r *run) all(ctx context.Context) {
	var workers sync.WaitGroup
	for range perCPU * goruntime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := r.next.Add(1) - 1; i < r.pods && ctx.Err() == nil; i = r.next.Add(1) - 1 {
				r.one(ctx, i)
			}
		})
	}
	workers.Wait()
}

// one tries one pod.
func (r *run) one(ctx context.Context, i uint64) {
	pod := newPod(r.seed, i)
	local, err := create(ctx, r.kube, pod)
	if err != nil {
		r.refused(i, err)
		return
	}
	r.accepted.Add(1)
	note(&r.sent, pod)
	note(&r.kept, local)
	twin := translate.Twin(local, env(i))
	for _, words := range broken(local, twin, r.denied) {
		r.fault("pod %d: %s", i, words)
	}
	made, err := create(ctx, r.kube, twin)
	if err != nil {
		r.fault("pod %d: the provider refuses the twin: %v", i, err)
		return
	}
	if patch, subresource, err := translate.Drift(local, made, env(i)); err != nil || patch != nil {
		r.fault("pod %d: the twin that was just made differs (%s): %s %v", i, subresource, patch, err)
	}
	if patch, err := translate.StatusPatch(local, translate.PodStatus(local, made, env(i))); err != nil || patch != nil {
		r.fault("pod %d: the twin that was just made has something to tell: %s %v", i, patch, err)
	}
}

// note adds the fields that a pod has.
func note(keys *sync.Map, pod *corev1.Pod) {
	add := func(key string, _ reflect.Value) bool {
		if _, there := keys.Load(key); !there {
			keys.Store(key, nil)
		}
		return true
	}
	walkValue(reflect.ValueOf(pod.ObjectMeta), add)
	walkValue(reflect.ValueOf(pod.Spec), add)
}

// notKept returns the fields that home's API server took from every pod.
func (r *run) notKept() []string {
	var list []string
	r.sent.Range(func(key, _ any) bool {
		if _, kept := r.kept.Load(key); !kept {
			list = append(list, key.(string))
		}
		return true
	})
	slices.Sort(list)
	return list
}

// mostFaults is how many faults are told.
const mostFaults = 20

func (r *run) fault(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.faults) < mostFaults {
		r.faults = append(r.faults, fmt.Sprintf(format, args...))
	}
}

// refused notes what home's API server says, once for pods that differ in names only.
func (r *run) refused(i uint64, err error) {
	words := kind(err.Error())
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refusals[words] == nil {
		r.refusals[words] = &refusal{words: err.Error(), pod: i}
	}
	r.refusals[words].count++
}

// kind returns an error's words without what differs from pod to pod.
func kind(words string) string {
	return regexp.MustCompile(`[0-9]+|"[^"]*"`).ReplaceAllString(words, "#")
}

// mostFrequent returns the five most frequent refusals.
func (r *run) mostFrequent() []*refusal {
	list := slices.SortedFunc(maps.Values(r.refusals), func(a, b *refusal) int { return b.count - a.count })
	return list[:min(5, len(list))]
}
