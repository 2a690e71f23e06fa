package policy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// whole is the share at which a workload belongs at the destination altogether.
const whole = 100

// Course is where a Migration sends the pods of a workload. What it points at is shared: do not change it.
type Course struct {
	Migration *v1alpha1.Migration
	Workload  v1alpha1.MigratedWorkload
	// Place is where new pods go: a peer, or empty for home. It means nothing while they are Divided.
	Place string
	// Divided says that some go to the destination and others to where the workload was: each waits until it is assigned.
	Divided bool
}

// WorkloadOf says which workload made a pod, by what the pod itself says, also when its ReplicaSet was made to let go of it; false when
// it is none that can be migrated.
func WorkloadOf(pod metav1.Object) (v1alpha1.WorkloadName, bool) {
	if pod.GetLabels()[v1alpha1.LabelMoving] != "" {
		return released(pod)
	}
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return v1alpha1.WorkloadName{}, false
	}
	kind := schema.FromAPIVersionAndKind(owner.APIVersion, owner.Kind)
	switch kind.GroupKind() {
	case appsv1.SchemeGroupVersion.WithKind("ReplicaSet").GroupKind():
		return deployment(owner.Name, pod.GetLabels()[appsv1.DefaultDeploymentUniqueLabelKey])
	case appsv1.SchemeGroupVersion.WithKind("StatefulSet").GroupKind():
		return v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadStatefulSet, Name: owner.Name}, true
	case batchv1.SchemeGroupVersion.WithKind("Job").GroupKind():
		// A CronJob names its Jobs by the minute they are due in.
		at := strings.LastIndexByte(owner.Name, '-')
		if at < 1 || at == len(owner.Name)-1 || strings.Trim(owner.Name[at+1:], "0123456789") != "" {
			return v1alpha1.WorkloadName{}, false
		}
		return v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadCronJob, Name: owner.Name[:at]}, true
	}
	return v1alpha1.WorkloadName{}, false
}

// released is the Deployment of a pod that its ReplicaSet was made to let go of; its labels no longer tell.
func released(pod metav1.Object) (v1alpha1.WorkloadName, bool) {
	var had struct{ Controller, Hash string }
	if json.Unmarshal([]byte(pod.GetAnnotations()[v1alpha1.AnnotationMoving]), &had) != nil {
		return v1alpha1.WorkloadName{}, false
	}
	return deployment(had.Controller, had.Hash)
}

// deployment is the one that named a ReplicaSet by the hash of its template.
func deployment(replicaSet, hash string) (v1alpha1.WorkloadName, bool) {
	name, ok := strings.CutSuffix(replicaSet, "-"+hash)
	if !ok || hash == "" || name == "" {
		return v1alpha1.WorkloadName{}, false
	}
	return v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadDeployment, Name: name}, true
}

// standing are those of the Migrations that have a say or may get one, the newest first, of two of one second the first by name.
func standing(migrations []*v1alpha1.Migration) []*v1alpha1.Migration {
	out := slices.DeleteFunc(slices.Clone(migrations), func(m *v1alpha1.Migration) bool { return !stands(m) })
	slices.SortFunc(out, func(a, b *v1alpha1.Migration) int {
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// courses says where the workloads of standing Migrations go: the first that names a workload counts.
func courses(standing []*v1alpha1.Migration) map[v1alpha1.WorkloadName]Course {
	out := map[v1alpha1.WorkloadName]Course{}
	for _, m := range standing {
		if m.Status.Phase == "" {
			continue // nobody has looked at it
		}
		for _, w := range m.Status.Workloads {
			if _, taken := out[w.WorkloadName]; !taken {
				out[w.WorkloadName] = course(m, w)
			}
		}
	}
	return out
}

// stands says whether a Migration was not refused, and is not being deleted.
func stands(m *v1alpha1.Migration) bool {
	return m.DeletionTimestamp == nil && m.Status.Phase != v1alpha1.MigrationRefused
}

func course(m *v1alpha1.Migration, w v1alpha1.MigratedWorkload) Course {
	c := Course{Migration: m, Workload: w, Place: w.From}
	switch share := share(m); {
	case share >= whole || w.From == m.Spec.To.Peer:
		c.Place = m.Spec.To.Peer
	case share > 0 && w.Kind != v1alpha1.WorkloadCronJob: // a run is one pod, or few: CronJobs go over with the last step
		c.Divided = true
	}
	return c
}

// share is the part that belongs at the destination: how a Migration ended says more than its figure.
func share(m *v1alpha1.Migration) int32 {
	switch m.Status.Phase {
	case v1alpha1.MigrationCompleted:
		return whole
	case v1alpha1.MigrationRollingBack, v1alpha1.MigrationRolledBack:
		return 0
	}
	return m.Status.Share
}

// SameCourse says whether two states of a Migration send pods the same way, whatever the progress they tell of.
func SameCourse(a, b *v1alpha1.Migration) bool {
	return stands(a) == stands(b) && (a.Status.Phase == "") == (b.Status.Phase == "") && share(a) == share(b) && a.Spec.To == b.Spec.To && a.CreationTimestamp.Equal(&b.CreationTimestamp) &&
		slices.EqualFunc(a.Status.Workloads, b.Status.Workloads, func(v, w v1alpha1.MigratedWorkload) bool {
			return v.WorkloadName == w.WorkloadName && v.From == w.From
		})
}

// Migrations returns those that have a say, and those that nobody has looked at yet, the newest first. Their progress may be old.
// Shared: do not change them.
func (s Set) Migrations() []*v1alpha1.Migration { return s.migrations }

// Course returns where the Migration that governs a pod sends new pods of its workload; false when none governs it.
func (s Set) Course(pod metav1.Object) (Course, bool) {
	if len(s.courses) == 0 {
		return Course{}, false
	}
	w, ok := WorkloadOf(pod)
	if !ok {
		return Course{}, false
	}
	c, ok := s.courses[w]
	return c, ok
}

// Migration returns the one that governs a pod; nil when none does. Its progress may be old. Shared: do not change it.
func (s Set) Migration(pod metav1.Object) *v1alpha1.Migration {
	c, _ := s.Course(pod)
	return c.Migration
}

// welcomes says that the pods of the workload may be in a peer: where they go, and where they come from.
func (c Course) welcomes(peer string) bool {
	return peer != "" && (peer == c.Migration.Spec.To.Peer || peer == c.Workload.From)
}

// leaves says that pods of the workload are, or will be, in a peer.
func (c Course) leaves() bool { return c.Migration.Spec.To.Peer != "" || c.Workload.From != "" }

// steer is how a new pod of the workload must differ. One that is divided waits: whether it leaves is said when it is assigned.
func (c Course) steer(pod *corev1.Pod) Steered {
	out := unsteered(pod)
	out.Annotations = map[string]string{v1alpha1.AnnotationPlacement: c.why()}
	switch {
	case c.Divided:
		out.Gates = gated(pod)
	case c.Place == "":
		out.Affinity = narrow(out.Affinity, []corev1.NodeSelectorTerm{{MatchExpressions: isVirtual(corev1.NodeSelectorOpDoesNotExist)}})
	default:
		out.Tolerations = ToleratePeer(out.Tolerations, c.Place)
		here := isVirtual(corev1.NodeSelectorOpIn)
		here[0].Values = []string{c.Place}
		out.Affinity = narrow(out.Affinity, []corev1.NodeSelectorTerm{{MatchExpressions: here}})
	}
	return out
}

// why is the sentence on pods that the Migration places.
func (c Course) why() string {
	name, to := c.Migration.Name, c.Migration.Spec.To.Peer
	switch {
	case c.Divided && to == "":
		return fmt.Sprintf("Migration %s brings %d%% of %s %s home: this pod waits to be told its place", name, share(c.Migration),
			strings.ToLower(string(c.Workload.Kind)), c.Workload.Name)
	case c.Divided:
		return fmt.Sprintf("Migration %s sends %d%% of %s %s to %s: this pod waits to be told its place", name, share(c.Migration),
			strings.ToLower(string(c.Workload.Kind)), c.Workload.Name, to)
	case c.Place != to && c.Place == "":
		return fmt.Sprintf("Migration %s leaves it at home", name)
	case c.Place != to:
		return fmt.Sprintf("Migration %s leaves it in %s", name, c.Place)
	case to == "":
		return fmt.Sprintf("Migration %s sends it home", name)
	}
	return fmt.Sprintf("Migration %s sends it to %s", name, to)
}
