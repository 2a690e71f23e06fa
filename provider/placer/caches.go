package placer

import (
	"context"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// The indexers of Caches.
const (
	indexOwner  = "owner"  // by the UID of the controller; pods that were let go of by that of the one that had them
	indexOrphan = "orphan" // pods that a ReplicaSet may take back, by namespace and pod-template-hash
	indexMoving = "moving" // pods that were let go of: all of them under one value
	indexUID    = "uid"    // by their own UID
)

// Caches is what placement goes by in this cluster: its pods and nodes, and the controllers behind the pods. Objects it returns are
// shared: copy before changing them. Safe for concurrent use.
type Caches struct {
	pods         *live.Cache[*corev1.Pod]
	nodes        *live.Cache[*corev1.Node]
	replicaSets  *live.Cache[*appsv1.ReplicaSet]
	deployments  *live.Cache[*appsv1.Deployment]
	statefulSets *live.Cache[*appsv1.StatefulSet]
}

// NewCaches returns caches that are empty until Run. changed is called when anything has changed that matters for placement. It must not
// block.
func NewCaches(client kubernetes.Interface, changed func()) *Caches {
	core, apps := client.CoreV1(), client.AppsV1()
	all := metav1.NamespaceAll
	return &Caches{
		pods: live.New(live.Options[*corev1.Pod]{
			Name: "pods to place", ListWatch: live.ListWatch(client, core.Pods(all), nil), Trim: trimPod,
			Changed: ifMatters(samePod, changed), Indexers: cache.Indexers{
				indexOwner: podOwner, indexOrphan: podOrphan, indexMoving: podMoving,
			},
		}),
		nodes: live.New(live.Options[*corev1.Node]{
			Name: "nodes to place on", ListWatch: live.ListWatch(client, core.Nodes(), nil), Trim: trimNode,
			Changed: ifMatters(sameNode, changed),
		}),
		replicaSets: live.New(live.Options[*appsv1.ReplicaSet]{
			Name: "replicasets", ListWatch: live.ListWatch(client, apps.ReplicaSets(all), nil), Trim: trimReplicaSet,
			Changed: ifMatters(sameReplicaSet, changed), Indexers: cache.Indexers{indexOwner: controllerUID, indexUID: ownUID},
		}),
		deployments: live.New(live.Options[*appsv1.Deployment]{
			Name: "deployments", ListWatch: live.ListWatch(client, apps.Deployments(all), nil), Trim: trimMeta[*appsv1.Deployment],
			Changed: ifMatters(sameSpec[*appsv1.Deployment], changed),
		}),
		statefulSets: live.New(live.Options[*appsv1.StatefulSet]{
			Name: "statefulsets", ListWatch: live.ListWatch(client, apps.StatefulSets(all), nil), Trim: trimMeta[*appsv1.StatefulSet],
			Changed: ifMatters(sameSpec[*appsv1.StatefulSet], changed),
		}),
	}
}

// ifMatters calls changed for what comes, goes, or is not the same as before.
func ifMatters[T live.Object](same func(before, now T) bool, changed func()) func(before, now T) {
	var none T
	return func(before, now T) {
		if before == none || now == none || before.GetUID() != now.GetUID() || !same(before, now) {
			changed()
		}
	}
}

// Run watches until ctx ends. Call it once.
func (c *Caches) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, run := range []func(context.Context){
		c.nodes.Run, c.replicaSets.Run, c.deployments.Run, c.statefulSets.Run, c.pods.Run,
	} {
		wg.Go(func() { run(ctx) })
	}
	wg.Wait()
}

// Synced says whether everything is known. Nothing may be decided before.
func (c *Caches) Synced() bool {
	return c.pods.HasSynced() && c.nodes.HasSynced() && c.replicaSets.HasSynced() && c.deployments.HasSynced() &&
		c.statefulSets.HasSynced()
}

// Pods returns the pods of all namespaces, in no order, without what placement does not read.
func (c *Caches) Pods() []*corev1.Pod { return c.pods.List() }

// Nodes returns all nodes, virtual ones too.
func (c *Caches) Nodes() []*corev1.Node { return c.nodes.List() }

// PeerOf returns the peer that a node stands for; placement.Home for a node of this cluster, and for one that is not there.
func (c *Caches) PeerOf(nodeName string) string {
	node, ok := c.nodes.Get("", nodeName)
	if !ok {
		return ""
	}
	return node.Labels[v1alpha1.LabelPeer]
}

func ownUID(obj any) ([]string, error) {
	return []string{string(obj.(metav1.Object).GetUID())}, nil
}

func controllerUID(obj any) ([]string, error) {
	if owner := metav1.GetControllerOfNoCopy(obj.(metav1.Object)); owner != nil {
		return []string{string(owner.UID)}, nil
	}
	return nil, nil
}

func podOwner(obj any) ([]string, error) {
	if had := obj.(*corev1.Pod).Labels[v1alpha1.LabelMoving]; had != "" {
		return []string{had}, nil
	}
	return controllerUID(obj)
}

func podOrphan(obj any) ([]string, error) {
	pod := obj.(*corev1.Pod)
	hash := pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
	if hash == "" || pod.Labels[v1alpha1.LabelMoving] != "" || metav1.GetControllerOfNoCopy(pod) != nil {
		return nil, nil
	}
	return []string{pod.Namespace + "/" + hash}, nil
}

func podMoving(obj any) ([]string, error) {
	if obj.(*corev1.Pod).Labels[v1alpha1.LabelMoving] == "" {
		return nil, nil
	}
	return []string{""}, nil
}

// replicaSetByUID finds the ReplicaSet that had a pod.
func (c *Caches) replicaSetByUID(uid types.UID) (*appsv1.ReplicaSet, bool) {
	found := c.replicaSets.Index(indexUID, string(uid))
	if len(found) == 0 {
		return nil, false
	}
	return found[0], true
}
