package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// whereabouts is one pod of the Deployment: what home sees, and where it really runs.
type whereabouts struct {
	pod  corev1.Pod  // at home
	twin *corev1.Pod // in the cloud; nil when the pod runs at home, or has no twin yet
}

func (w whereabouts) away() bool { return w.pod.Spec.NodeName == virtualNode }

// running is the pod that really runs; nil when there is none yet.
func (w whereabouts) running() *corev1.Pod {
	if w.away() {
		return w.twin
	}
	return &w.pod
}

func ready(pod *corev1.Pod) bool {
	if pod == nil || pod.DeletionTimestamp != nil {
		return false
	}
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// look finds every pod of the Deployment web and its twin, sorted by node and name.
func (d *demo) look(ctx context.Context) ([]whereabouts, error) { return d.lookAt(ctx, deployment) }

// lookAt does the same for another Deployment.
func (d *demo) lookAt(ctx context.Context, name string) ([]whereabouts, error) {
	pods, err := d.clusters[home].kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
	if err != nil {
		return nil, fmt.Errorf("list the pods at home: %w", err)
	}
	twins, err := d.twins(ctx)
	if err != nil {
		return nil, err
	}
	var all []whereabouts
	for _, pod := range pods.Items {
		all = append(all, whereabouts{pod, twinOf(&pod, twins)})
	}
	slices.SortFunc(all, func(a, b whereabouts) int {
		return cmp.Or(cmp.Compare(a.pod.Spec.NodeName, b.pod.Spec.NodeName), cmp.Compare(a.pod.Name, b.pod.Name))
	})
	return all, nil
}

// twins are all pods in the cloud that Spillway made.
func (d *demo) twins(ctx context.Context) ([]corev1.Pod, error) {
	twins, err := d.clusters[cloud].kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelOrigin})
	if err != nil {
		return nil, fmt.Errorf("list the twins in the cloud: %w", err)
	}
	return twins.Items, nil
}

func twinOf(pod *corev1.Pod, twins []corev1.Pod) *corev1.Pod {
	for i := range twins {
		if twins[i].Annotations[v1alpha1.AnnotationOriginUID] == string(pod.UID) {
			return &twins[i]
		}
	}
	return nil
}

// tell shows where each pod runs.
func (d *demo) tell(all []whereabouts) {
	title := "POD AT HOME\tITS NODE THERE\tTWIN IN THE CLOUD\tRUNS ON"
	if d.real {
		title += "\tAS PROCESS"
	}
	rows := []string{title}
	for _, w := range all {
		twin, node := "–", ""
		if w.away() && w.twin != nil {
			twin = w.twin.Namespace + "/" + w.twin.Name
		}
		if pod := w.running(); pod != nil {
			node = pod.Spec.NodeName
		}
		row := fmt.Sprintf("%s\t%s\t%s\t%s", w.pod.Name, w.pod.Spec.NodeName, twin, node)
		if d.real {
			row += "\t" + process(w.running())
		}
		rows = append(rows, row)
	}
	d.show.table(rows)
}

// process is a pod's first process, as this machine sees it, such as "4711 (app)": the first one in the group that
// carries the id of the container.
func process(pod *corev1.Pod) string {
	if pod == nil || len(pod.Status.ContainerStatuses) == 0 {
		return "?"
	}
	_, id, ok := strings.Cut(pod.Status.ContainerStatuses[0].ContainerID, "://")
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if !ok || err != nil {
		return "?"
	}
	first := 0
	for _, file := range groups {
		text, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(text, []byte(id)) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && (first == 0 || pid < first) {
			first = pid
		}
	}
	if first == 0 {
		return "?"
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", first))
	if err != nil {
		return "?" // it has ended meanwhile
	}
	return fmt.Sprintf("%d (%s)", first, bytes.TrimSpace(name))
}
