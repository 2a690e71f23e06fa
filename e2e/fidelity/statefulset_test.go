package fidelity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const membersNamespace = "members"

// members is how many pods each of the two sets has.
const members = 2

// TestStatefulSet makes a set at home and one in the peer behind one headless Service, compares their pods, deletes one of each, and
// asks for all of them by name from a pod beside them.
func TestStatefulSet(t *testing.T) {
	t.Parallel() // it waits for most of its time
	w := theWorld(t)
	w.namespace(t, membersNamespace)
	heads := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "heads"}, Spec: corev1.ServiceSpec{
		ClusterIP: corev1.ClusterIPNone, Selector: map[string]string{"app": "db"}, Ports: []corev1.ServicePort{{Port: 8080}},
	}}
	if _, err := w.kube.CoreV1().Services(membersNamespace).Create(t.Context(), heads, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for end, node := range map[string]string{atHome: w.home, inPeer: "spillway-" + west} {
		set, err := setOf(end, node)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.kube.AppsV1().StatefulSets(membersNamespace).Create(t.Context(), set, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	before := w.membersAlike(t, nil)
	for _, end := range []string{atHome, inPeer} {
		if err := w.kube.CoreV1().Pods(membersNamespace).Delete(t.Context(), member(end, 1), metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	w.membersAlike(t, before)
	t.Run("answers", w.answers)
}

func member(end string, ordinal int) string { return fmt.Sprintf("db-%s-%d", end, ordinal) }

// setOf is the set at one end: what a member is called is seen by its first container.
func setOf(end, node string) (*appsv1.StatefulSet, error) {
	of := shape{name: "db", spec: `initContainers: [{name: witness, args: [see, host, "file:/etc/hostname", "file:/etc/hosts", "env:ORDINAL"],
  env: [{name: ORDINAL, valueFrom: {fieldRef: {fieldPath: "metadata.labels['apps.kubernetes.io/pod-index']"}}}]}]
` + always(`args: [serve], ports: [{containerPort: 8080}], readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}`)}
	pod, err := of.pod(end, node)
	if err != nil {
		return nil, err
	}
	labels := map[string]string{"app": "db", "end": end}
	return &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db-" + end}, Spec: appsv1.StatefulSetSpec{
		Replicas: new(int32(members)), ServiceName: "heads", Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod.Spec},
	}}, nil
}

// membersAlike waits until all members are ready and look the same at both ends, and returns their UIDs. The last ordinal must be
// another pod than before.
func (w *world) membersAlike(t *testing.T, before map[string]types.UID) map[string]types.UID {
	t.Helper()
	now := map[string]types.UID{}
	began := time.Now()
	eventually(t, soon, func(ctx context.Context) error {
		var wrong error
		for ordinal := range members {
			var views []view
			for _, end := range []string{atHome, inPeer} {
				pod, err := w.kube.CoreV1().Pods(membersNamespace).Get(ctx, member(end, ordinal), metav1.GetOptions{})
				if err != nil {
					return err
				}
				switch {
				case !ready(pod) || pod.DeletionTimestamp != nil:
					return fmt.Errorf("pod %s is not ready", pod.Name)
				case pod.Spec.Hostname != pod.Name || pod.Spec.Subdomain != "heads":
					return fmt.Errorf("pod %s is called %s.%s", pod.Name, pod.Spec.Hostname, pod.Spec.Subdomain)
				case ordinal == members-1 && before[pod.Name] == pod.UID:
					return fmt.Errorf("pod %s is the one that was deleted", pod.Name)
				}
				now[pod.Name] = pod.UID
				views = append(views, viewOf(pod))
			}
			expected := map[string]reason{"init witness sees file:/etc/hosts": hostDomain}
			if v := verdict(views[0], views[1], expected, map[reason]bool{}); v != "" {
				wrong = errors.Join(wrong, fmt.Errorf("ordinal %d differs:\n%s", ordinal, v))
			}
		}
		return wrong
	})
	t.Logf("%d members at each end, alike after %s", members, time.Since(began).Round(100*time.Millisecond))
	return maps.Clone(now)
}

// answers asks for each member's name from beside it, and compares what the two ends hear.
func (w *world) answers(t *testing.T) {
	words := func(end string) []string {
		var all []string
		for ordinal := range members {
			all = append(all, "finds:"+member(end, ordinal)+".heads", "resolve:"+member(end, ordinal)+".heads")
		}
		return append(all, "finds:"+member(end, members)+".heads", "finds:heads", "get:http://"+member(end, 0)+".heads:8080/healthz")
	}
	for end, node := range map[string]string{atHome: w.home, inPeer: "spillway-" + west} {
		pod, err := shape{name: "asks", spec: see(words(end)...)}.pod(end, node)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.kube.CoreV1().Pods(membersNamespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, soon, func(ctx context.Context) error {
			pod, err = w.kube.CoreV1().Pods(membersNamespace).Get(ctx, pod.Name, metav1.GetOptions{})
			if err == nil && !ended(pod) {
				err = errors.New("the pod that asks has not ended")
			}
			return err
		})
		heard := viewOf(pod)
		for ordinal := range members {
			name := member(end, ordinal)
			wantHeard(t, heard, "finds:"+name+".heads", "yes")
			if end == atHome {
				pod, err = w.kube.CoreV1().Pods(membersNamespace).Get(t.Context(), name, metav1.GetOptions{})
			} else {
				pod, err = w.twin(t.Context(), name)
			}
			if err != nil {
				t.Fatal(err)
			}
			wantHeard(t, heard, "resolve:"+name+".heads", pod.Status.PodIP)
		}
		wantHeard(t, heard, "finds:heads", "yes")
		// nobody: a name with a dot is asked for as it is at last, and the DNS of the lab has no other server to ask
		wantHeard(t, heard, "finds:"+member(end, members)+".heads", "server misbehaving")
		wantHeard(t, heard, "get:http://"+member(end, 0)+".heads:8080/healthz", "200 OK ok\\n")
	}
}

func wantHeard(t *testing.T, heard view, word, want string) {
	t.Helper()
	if got := heard["app sees "+word]; got != want {
		t.Errorf("%s: got %q, want %q", word, got, want)
	}
}
