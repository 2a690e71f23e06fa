package reflector

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/reflector/translate"
)

func TestPlanVolume(t *testing.T) {
	annotated := waitingClaim("far")
	annotated.Annotations[translate.KeyRemoteClass] = "precious"
	filled := waitingClaim("far")
	filled.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "old"}
	immediate := volumeClass(nil)
	immediate.VolumeBindingMode = nil
	behind := waitingClaim("")
	disk := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "disk"}, Provisioner: "example.com/disk"}
	byHand := volumeClass(nil)
	byHand.Provisioner = "kubernetes.io/no-provisioner"
	source := &corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{
		Capacity:               gigabytes(5),
		PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/disk"}},
	}}
	for name, row := range map[string]struct {
		facts volumeFacts
		want  volumeStepKind
		peer  string // of the volume
		class string // at the peer
	}{
		"no pod yet":         {volumeFacts{claim: waitingClaim(""), class: volumeClass(nil)}, volumeNone, "", ""},
		"binds at once":      {volumeFacts{claim: waitingClaim(""), class: immediate}, volumeTell, "", ""},
		"the node is gone":   {volumeFacts{claim: waitingClaim("far"), class: volumeClass(nil)}, volumeReschedule, "", ""},
		"lands at a peer":    {volumeFacts{claim: waitingClaim("far"), class: volumeClass(nil), node: nodeOf("far", "west")}, volumeCreate, "west", ""},
		"from a data source": {volumeFacts{claim: filled, class: volumeClass(nil), node: nodeOf("far", "west")}, volumeTell, "", ""},
		"the class names one": {volumeFacts{claim: waitingClaim("far"), class: volumeClass(map[string]string{translate.KeyRemoteClass: "fast"}), node: nodeOf("far", "west")},
			volumeCreate, "west", "fast"},
		"a policy names one": {volumeFacts{ruled: "cheap", claim: waitingClaim("far"), class: volumeClass(map[string]string{translate.KeyRemoteClass: "fast"}), node: nodeOf("far", "west")},
			volumeCreate, "west", "cheap"},
		"the claim names one": {volumeFacts{claim: annotated, class: volumeClass(map[string]string{translate.KeyRemoteClass: "fast"}), node: nodeOf("far", "west")},
			volumeCreate, "west", "precious"},
		"lands at home, no class there": {volumeFacts{claim: waitingClaim("n1"), class: volumeClass(nil), node: nodeOf("n1", ""), namespace: "sys"}, volumeTell, "", ""},
		"lands at home, disks are made by hand": {volumeFacts{claim: waitingClaim("n1"), class: volumeClass(nil), node: nodeOf("n1", ""), namespace: "sys", local: byHand},
			volumeTell, "", ""},
		"lands at home": {volumeFacts{claim: waitingClaim("n1"), class: volumeClass(nil), node: nodeOf("n1", ""), namespace: "sys", local: disk},
			volumeBack, "", ""},
		"at home, not bound": {volumeFacts{claim: waitingClaim("n1"), class: volumeClass(nil), node: nodeOf("n1", ""), namespace: "sys", local: disk, behind: behind},
			volumeNone, "", ""},
		"at home, bound": {volumeFacts{claim: waitingClaim("n1"), class: volumeClass(nil), node: nodeOf("n1", ""), namespace: "sys", local: disk, behind: behind, source: source},
			volumeCreate, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := planVolume(row.facts)
			if got.kind != row.want {
				t.Fatalf("step %s %s, want %s", got.kind, got.message, row.want)
			}
			if got.kind == volumeBack && (got.behind.Name != "pvc-c1" || got.behind.Namespace != "sys" || *got.behind.Spec.StorageClassName != "disk") {
				t.Errorf("the claim behind it: %+v", got.behind)
			}
			if got.kind != volumeCreate {
				return
			}
			if ref := claimOf(got.pv); got.pv.Name != "pvc-c1" || ref.UID != "c1" || peerOf(got.pv) != row.peer || classOf(got.pv) != row.class {
				t.Errorf("volume %+v", got.pv)
			}
			op := corev1.NodeSelectorOpIn
			if row.peer == "" {
				op = corev1.NodeSelectorOpDoesNotExist
				if got.pv.Spec.HostPath == nil {
					t.Errorf("the volume at home is not its source: %+v", got.pv.Spec)
				}
			}
			only := got.pv.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions
			if len(only) != 1 || only[0].Key != translate.LabelPeer || only[0].Operator != op {
				t.Errorf("nodes: %v", only)
			}
		})
	}
}

func TestPlanGrowth(t *testing.T) {
	claim := func(asked, has int64) *corev1.PersistentVolumeClaim {
		c := waitingClaim("")
		c.Spec.Resources.Requests = gigabytes(asked)
		c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: gigabytes(has)}
		return c
	}
	volume := func(peer string, has int64) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{translate.LabelPeer: peer}},
			Spec:       corev1.PersistentVolumeSpec{Capacity: gigabytes(has)},
		}
	}
	for name, row := range map[string]struct {
		claim  *corev1.PersistentVolumeClaim
		pv     *corev1.PersistentVolume
		behind *corev1.PersistentVolumeClaim
		want   growStep
	}{
		"as it was made":                {claim(1, 1), volume("west", 1), claim(1, 1), growNone},
		"not bound":                     {waitingClaim("far"), volume("west", 1), nil, growNone},
		"more, the peer works on it":    {claim(2, 1), volume("west", 1), claim(2, 1), growNone},
		"more, no twin is known":        {claim(2, 1), volume("west", 1), nil, growNone},
		"more, the peer has it":         {claim(2, 1), volume("west", 1), claim(2, 2), growVolume},
		"the volume has it":             {claim(2, 1), volume("west", 2), claim(2, 2), growClaim},
		"all have it":                   {claim(2, 2), volume("west", 2), claim(2, 2), growNone},
		"at home: ask behind it":        {claim(2, 1), volume("", 1), claim(1, 1), growBehind},
		"at home: it has been asked":    {claim(2, 1), volume("", 1), claim(2, 1), growNone},
		"larger than asked for at once": {claim(1, 5), volume("", 5), claim(1, 5), growNone},
	} {
		t.Run(name, func(t *testing.T) {
			if got := planGrowth(row.claim, row.pv, row.behind); got != row.want {
				t.Errorf("step %s, want %s", got, row.want)
			}
		})
	}
}
