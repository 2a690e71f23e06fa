package reflector

import (
	"cmp"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/reflector/translate"
)

const (
	annotationProvisioner  = "volume.kubernetes.io/storage-provisioner" // on a claim, by the cluster's controller
	annotationSelectedNode = "volume.kubernetes.io/selected-node"       // on a claim, by the scheduler
	annotationMadeBy       = "pv.kubernetes.io/provisioned-by"          // on a volume; that controller then leaves its end to us

	// finalizer keeps a volume that somebody deletes until what is behind it is gone, or is to be retained.
	finalizer = "spillway.dev/volume"

	// driver is the CSI driver that volumes at a peer name. No node has it, so that no kubelet mounts them; the chart's CSIDriver
	// says that they need no attaching (the attach-detach controller would make a VolumeAttachment, which nobody
	// answers, for a pod that is forced onto a real node). A volume of type local would be as good for the scheduler,
	// which reads the node affinity only, but has a path that may exist on a real node and no place for the class.
	driver = "volumes.spillway.dev"
)

// volumeStepKind is what to do next about the volume of a claim.
type volumeStepKind string

const (
	volumeNone       volumeStepKind = "none"       // nothing, or something else must happen first
	volumeCreate     volumeStepKind = "create"     // make the volume
	volumeBack       volumeStepKind = "back"       // make the claim behind a volume at home
	volumeReschedule volumeStepKind = "reschedule" // the node is gone: let the scheduler choose again
	volumeTell       volumeStepKind = "tell"       // the user must act
)

type volumeStep struct {
	kind    volumeStepKind
	pv      *corev1.PersistentVolume      // create
	behind  *corev1.PersistentVolumeClaim // back
	reason  string                        // tell
	message string                        // tell
}

// volumeFacts are what planVolume depends on.
type volumeFacts struct {
	claim *corev1.PersistentVolumeClaim
	class *storagev1.StorageClass // the claim's
	ruled string                  // the peer's class by policy; empty: no policy says
	node  *corev1.Node            // that the scheduler has chosen; nil when it is gone
	// For volumes at home: where the claim behind it is made, of which class it will be, that claim, and its volume when it is
	// bound. The class is nil when none is known, or no longer needed.
	namespace string
	local     *storagev1.StorageClass
	behind    *corev1.PersistentVolumeClaim
	source    *corev1.PersistentVolume
}

// needsVolume says whether the claim waits for a volume of ours.
func needsVolume(claim *corev1.PersistentVolumeClaim) bool {
	return claim != nil && claim.DeletionTimestamp == nil && claim.Spec.VolumeName == "" && ours(claim) &&
		claim.Spec.StorageClassName != nil
}

// planVolume decides the one next step for a claim that needsVolume and has none.
func planVolume(f volumeFacts) volumeStep {
	switch {
	case f.claim.Annotations[annotationSelectedNode] == "":
		if m := f.class.VolumeBindingMode; m != nil && *m == storagev1.VolumeBindingWaitForFirstConsumer {
			return volumeStep{kind: volumeNone}
		}
		return tell("StorageClass %s must have volumeBindingMode WaitForFirstConsumer: the volume is made where its first pod lands",
			f.class.Name)
	case f.node == nil:
		return volumeStep{kind: volumeReschedule}
	}
	peer := f.node.Labels[translate.LabelPeer]
	if peer == "" {
		return planAtHome(f)
	}
	if f.claim.Spec.DataSource != nil || f.claim.Spec.DataSourceRef != nil {
		return tell("a volume at peer %s cannot be filled from another of home: remove the claim's dataSource", peer)
	}
	pv := newVolume(f)
	pv.Labels[translate.LabelPeer] = peer
	attributes := map[string]string{}
	if class := remoteClass(f); class != "" {
		attributes[translate.KeyRemoteClass] = class
	}
	pv.Spec.PersistentVolumeSource.CSI = &corev1.CSIPersistentVolumeSource{
		Driver: driver, VolumeHandle: pv.Name, VolumeAttributes: attributes,
	}
	pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{ // a peer may have several nodes
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{
			Key: translate.LabelPeer, Operator: corev1.NodeSelectorOpIn, Values: []string{peer},
		}}}},
	}}
	return volumeStep{kind: volumeCreate, pv: pv}
}

// remoteClass is the class of the volume at the peer; empty for the peer's default.
func remoteClass(f volumeFacts) string {
	if class := f.claim.Annotations[translate.KeyRemoteClass]; class != "" {
		return class
	}
	return cmp.Or(f.ruled, f.class.Parameters[translate.KeyRemoteClass])
}

// planAtHome: the first pod lands on a real node. A claim of an ordinary class stands behind ours, and our volume is the
// same storage under the name of our class.
func planAtHome(f volumeFacts) volumeStep {
	switch {
	case f.behind == nil && (f.namespace == "" || f.local == nil):
		return tell("node %s is at home, and no StorageClass for volumes there is known: mark one as default, "+
			"or name one in parameter %s of StorageClass %s", f.node.Name, translate.KeyLocalClass, f.class.Name)
	case f.behind == nil && onlyByScheduler(f.local):
		return tell("node %s is at home, where volumes of StorageClass %s are made by hand and chosen by the scheduler: name another "+
			"in parameter %s of StorageClass %s", f.node.Name, f.local.Name, translate.KeyLocalClass, f.class.Name)
	case f.behind == nil:
		return volumeStep{kind: volumeBack, behind: claimBehind(f)}
	case f.source == nil:
		return volumeStep{kind: volumeNone} // its own provisioner works
	}
	pv := newVolume(f)
	pv.Labels[translate.LabelPeer] = ""
	pv.Spec.PersistentVolumeSource = *f.source.Spec.PersistentVolumeSource.DeepCopy()
	pv.Spec.NodeAffinity = realNodes(f.source.Spec.NodeAffinity)
	pv.Spec.MountOptions = f.source.Spec.MountOptions
	pv.Spec.Capacity = f.source.Spec.Capacity
	return volumeStep{kind: volumeCreate, pv: pv}
}

// defaultClass is the class of claims that name none, ours apart: of several the newest, as for the API server. Nil when there is
// none.
func defaultClass(classes []storagev1.StorageClass) (newest *storagev1.StorageClass) {
	for i := range classes {
		c := &classes[i]
		if c.Annotations["storageclass.kubernetes.io/is-default-class"] != "true" || c.Provisioner == translate.VolumeProvisioner {
			continue
		}
		if newest == nil || newest.CreationTimestamp.Before(&c.CreationTimestamp) {
			newest = c
		}
	}
	return newest
}

// onlyByScheduler says whether volumes of a class are given only to claims of pods, which the claim behind ours never is.
func onlyByScheduler(class *storagev1.StorageClass) bool {
	m := class.VolumeBindingMode
	return class.Provisioner == "kubernetes.io/no-provisioner" && m != nil && *m == storagev1.VolumeBindingWaitForFirstConsumer
}

// realNodes is affinity and not a virtual node: storage that every node of home reaches is not reached from a peer.
func realNodes(affinity *corev1.VolumeNodeAffinity) *corev1.VolumeNodeAffinity {
	terms := []corev1.NodeSelectorTerm{{}} // alternatives
	if affinity != nil && affinity.Required != nil {
		terms = affinity.Required.DeepCopy().NodeSelectorTerms
	}
	for i := range terms {
		terms[i].MatchExpressions = append(terms[i].MatchExpressions,
			corev1.NodeSelectorRequirement{Key: translate.LabelPeer, Operator: corev1.NodeSelectorOpDoesNotExist})
	}
	return &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: terms}}
}

func claimBehind(f volumeFacts) *corev1.PersistentVolumeClaim {
	spec := f.claim.Spec.DeepCopy()
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: volumeName(f.claim.UID), Namespace: f.namespace,
			Annotations: map[string]string{
				annotationSelectedNode:              f.node.Name,
				translate.AnnotationOriginUID:       string(f.claim.UID),
				translate.AnnotationOriginNamespace: f.claim.Namespace,
			},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &f.local.Name, AccessModes: spec.AccessModes, VolumeMode: spec.VolumeMode,
			Resources: corev1.VolumeResourceRequirements{Requests: spec.Resources.Requests},
		},
	}
}

// newVolume is what volumes have in common, wherever they are.
func newVolume(f volumeFacts) *corev1.PersistentVolume {
	claim, policy := f.claim.Spec.DeepCopy(), corev1.PersistentVolumeReclaimDelete
	if f.class.ReclaimPolicy != nil {
		policy = *f.class.ReclaimPolicy
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: volumeName(f.claim.UID), Labels: map[string]string{}, Finalizers: []string{finalizer},
			Annotations: map[string]string{annotationMadeBy: translate.VolumeProvisioner},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: claim.Resources.Requests[corev1.ResourceStorage]},
			AccessModes: claim.AccessModes, VolumeMode: claim.VolumeMode,
			StorageClassName: f.class.Name, PersistentVolumeReclaimPolicy: policy,
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: f.claim.Namespace, Name: f.claim.Name, UID: f.claim.UID,
			},
		},
	}
}

func tell(format string, args ...any) volumeStep {
	return volumeStep{kind: volumeTell, reason: "ProvisioningFailed", message: fmt.Sprintf(format, args...)}
}

// released says whether the claim of a volume is gone and its data is to go too.
func released(pv *corev1.PersistentVolume) bool {
	return pv != nil && pv.Status.Phase == corev1.VolumeReleased &&
		pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete
}

// growStep is what to write when a claim asks for more than it was made with.
type growStep string

const (
	growNone   growStep = "none"
	growBehind growStep = "behind" // ask for more behind a volume at home
	growVolume growStep = "volume" // the volume has what is asked for
	growClaim  growStep = "claim"  // its claim has it
)

// planGrowth decides the one next step for a claim and its volume, given the claim behind it: the twin, or the one at home. It
// may be nil.
func planGrowth(claim *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume, behind *corev1.PersistentVolumeClaim) growStep {
	asked, volume := storage(claim.Spec.Resources.Requests), storage(pv.Spec.Capacity)
	if claim.Status.Phase != corev1.ClaimBound {
		return growNone
	}
	if asked.Cmp(volume) <= 0 {
		if has := storage(claim.Status.Capacity); has.Cmp(volume) < 0 {
			return growClaim
		}
		return growNone
	}
	if behind == nil {
		return growNone
	}
	if there := storage(behind.Status.Capacity); there.Cmp(asked) >= 0 {
		return growVolume
	}
	if request := storage(behind.Spec.Resources.Requests); peerOf(pv) == "" && request.Cmp(asked) < 0 {
		return growBehind
	}
	return growNone
}

func storage(list corev1.ResourceList) resource.Quantity { return list[corev1.ResourceStorage] }
