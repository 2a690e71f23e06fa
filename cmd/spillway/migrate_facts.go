package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// migrateFacts is everything by which it is judged whether a Migration can be done. Plain values; what the user may not read is absent.
type migrateFacts struct {
	migration    *v1alpha1.Migration // that is wanted; its namespace is that of all below
	namespace    *corev1.Namespace   // nil: it may not be read
	deployments  []appsv1.Deployment
	statefulSets []appsv1.StatefulSet
	cronJobs     []batchv1.CronJob
	pods         []corev1.Pod // of the namespace
	services     []corev1.Service
	claims       []corev1.PersistentVolumeClaim
	budgets      []policyv1.PodDisruptionBudget
	policies     []v1alpha1.OffloadPolicy
	migrations   []v1alpha1.Migration
	nodes        []corev1.Node // all of the cluster
	peerings     []v1alpha1.Peering
	peeringsRead bool         // false: they may not be read
	elsewhere    []corev1.Pod // of other namespaces, on the peer's nodes: what they use is not free
}

// workload is one that can be moved.
type workload struct {
	v1alpha1.WorkloadName
	labels   labels.Set
	replicas int32 // pods that it wants; of a CronJob none
	template *corev1.PodTemplateSpec
}

// gatherMigrate reads what migration is judged by.
func gatherMigrate(ctx context.Context, c *cluster, migration *v1alpha1.Migration) (migrateFacts, error) {
	f := migrateFacts{migration: migration}
	ns := migration.Namespace
	namespace, err := mayRead(c.kube.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{}))
	if apierrors.IsNotFound(err) {
		return f, problemf(fmt.Sprintf("See which there are: kubectl --context %s get namespaces", c.context), "there is no namespace %q in %s", ns, c.title())
	}
	if err != nil {
		return f, explain(c, "read namespace "+ns, err)
	}
	f.namespace = namespace
	if err := f.gatherWorkloads(ctx, c); err != nil {
		return f, err
	}
	return f, f.gatherAround(ctx, c)
}

// gatherWorkloads reads what can be moved, and the Migrations that move something already. Whoever may not read them cannot migrate.
func (f *migrateFacts) gatherWorkloads(ctx context.Context, c *cluster) error {
	ns, every := f.migration.Namespace, metav1.ListOptions{}
	deployments, err := c.kube.AppsV1().Deployments(ns).List(ctx, every)
	if err != nil {
		return explain(c, "list the Deployments of namespace "+ns, err)
	}
	statefulSets, err := c.kube.AppsV1().StatefulSets(ns).List(ctx, every)
	if err != nil {
		return explain(c, "list the StatefulSets of namespace "+ns, err)
	}
	cronJobs, err := c.kube.BatchV1().CronJobs(ns).List(ctx, every)
	if err != nil {
		return explain(c, "list the CronJobs of namespace "+ns, err)
	}
	f.deployments, f.statefulSets, f.cronJobs = deployments.Items, statefulSets.Items, cronJobs.Items
	f.migrations, err = listMigrations(ctx, c, ns)
	return err
}

// gatherAround reads what lies around them.
func (f *migrateFacts) gatherAround(ctx context.Context, c *cluster) error {
	ns, every := f.migration.Namespace, metav1.ListOptions{}
	core := c.kube.CoreV1()
	if list, err := mayRead(core.Pods(ns).List(ctx, every)); err != nil {
		return explain(c, "list the pods of namespace "+ns, err)
	} else if list != nil {
		f.pods = list.Items
	}
	if list, err := mayRead(core.Services(ns).List(ctx, every)); err != nil {
		return explain(c, "list the Services of namespace "+ns, err)
	} else if list != nil {
		f.services = list.Items
	}
	if list, err := mayRead(core.PersistentVolumeClaims(ns).List(ctx, every)); err != nil {
		return explain(c, "list the PersistentVolumeClaims of namespace "+ns, err)
	} else if list != nil {
		f.claims = list.Items
	}
	if list, err := mayRead(c.kube.PolicyV1().PodDisruptionBudgets(ns).List(ctx, every)); err != nil {
		return explain(c, "list the PodDisruptionBudgets of namespace "+ns, err)
	} else if list != nil {
		f.budgets = list.Items
	}
	if list, err := mayRead(c.policies(ns).List(ctx, every)); err != nil {
		return explain(c, "list the OffloadPolicies of namespace "+ns, err)
	} else if list != nil {
		f.policies = list.Items
	}
	return f.gatherPlaces(ctx, c)
}

// gatherPlaces reads the places where pods can go, and what is on the peer's nodes already.
func (f *migrateFacts) gatherPlaces(ctx context.Context, c *cluster) error {
	if list, err := mayRead(c.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})); err != nil {
		return explain(c, "list the nodes", err)
	} else if list != nil {
		f.nodes = list.Items
	}
	list, err := mayRead(c.peerings.List(ctx, metav1.ListOptions{}))
	if err != nil {
		return explain(c, "list Peerings", err)
	}
	if f.peeringsRead = list != nil; f.peeringsRead {
		f.peerings = list.Items
	}
	for i := range f.nodes {
		if peer := f.migration.Spec.To.Peer; peer == "" || f.nodes[i].Labels[v1alpha1.LabelPeer] != peer {
			continue
		}
		pods, err := readPods(ctx, c, onNode(f.nodes[i].Name))
		if err != nil {
			return err
		}
		f.elsewhere = append(f.elsewhere, slices.DeleteFunc(pods, func(p corev1.Pod) bool { return p.Namespace == f.migration.Namespace })...)
	}
	return nil
}

// listMigrations lists the Migrations of a namespace; of all, for the empty name.
func listMigrations(ctx context.Context, c *cluster, namespace string) ([]v1alpha1.Migration, error) {
	list, err := c.migrations(namespace).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil, problemf(fmt.Sprintf("Upgrade it: spillway upgrade --context %s", c.context),
			"%s does not know the kind Migration: its CRDs are of an older Spillway", c.title())
	}
	if err != nil {
		return nil, explain(c, "list Migrations", err)
	}
	return list.Items, nil
}

// all are the workloads of the namespace, by kind and name.
func (f migrateFacts) all() []workload {
	var list []workload
	for i := range f.deployments {
		d := &f.deployments[i]
		list = append(list, workload{v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadDeployment, Name: d.Name}, d.Labels, wanted(d.Spec.Replicas), &d.Spec.Template})
	}
	for i := range f.statefulSets {
		s := &f.statefulSets[i]
		list = append(list, workload{v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadStatefulSet, Name: s.Name}, s.Labels, wanted(s.Spec.Replicas), &s.Spec.Template})
	}
	for i := range f.cronJobs {
		c := &f.cronJobs[i]
		list = append(list, workload{v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadCronJob, Name: c.Name}, c.Labels, 0, &c.Spec.JobTemplate.Spec.Template})
	}
	slices.SortFunc(list, func(a, b workload) int { return strings.Compare(words(a.WorkloadName), words(b.WorkloadName)) })
	return list
}

// wanted is how many pods a controller wants; 1 when it does not say.
func wanted(replicas *int32) int32 {
	if replicas == nil {
		return 1
	}
	return *replicas
}

// chosen are the workloads that choice means, of all.
func chosen(choice v1alpha1.WorkloadChoice, all []workload) []workload {
	selector, err := metav1.LabelSelectorAsSelector(choice.Selector) // nil selects nothing
	if err != nil {
		selector = labels.Nothing()
	}
	var list []workload
	for _, w := range all {
		if choice.All || slices.Contains(choice.Names, w.WorkloadName) || selector.Matches(w.labels) {
			list = append(list, w)
		}
	}
	return list
}
