package main

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"helm.sh/helm/v3/pkg/release"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	labelEnforce   = "pod-security.kubernetes.io/enforce"
	levelRestrict  = "restricted"
	keepAnnotation = "helm.sh/resource-policy" // Helm leaves alone what carries it
)

// ensureNamespace makes Spillway's namespace, in which pods have no privileges. It is no part of the chart, since Helm's
// release lives in it.
func (i *installRun) ensureNamespace(ctx context.Context) (string, error) {
	namespaces := i.home.kube.CoreV1().Namespaces()
	have, err := namespaces.Get(ctx, v1alpha1.SystemNamespace, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		i.steps.changed = true
		_, err = namespaces.Create(ctx, wantNamespace(), metav1.CreateOptions{FieldManager: managerInstall})
		return created, explain(i.home, "create namespace "+v1alpha1.SystemNamespace, err)
	case err != nil:
		return "", explain(i.home, "read namespace "+v1alpha1.SystemNamespace, err)
	case have.DeletionTimestamp != nil:
		return "", problemf("Wait until it is gone, then run the same command again.", "the namespace %s is being deleted", have.Name)
	}
	patch := namespacePatch(have)
	if patch == nil {
		return unchanged, nil
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return "", fmt.Errorf("encode namespace %s: %w", have.Name, err)
	}
	i.steps.changed = true
	_, err = namespaces.Patch(ctx, have.Name, types.MergePatchType, data, metav1.PatchOptions{FieldManager: managerInstall})
	return updated, explain(i.home, "label namespace "+have.Name, err)
}

func wantNamespace() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name:        v1alpha1.SystemNamespace,
		Labels:      map[string]string{labelEnforce: levelRestrict, labelManagedBy: managedBy},
		Annotations: map[string]string{keepAnnotation: "keep"},
	}}
}

// namespacePatch is what have lacks; nil: nothing. A level that somebody has set stays, as preflight tells.
func namespacePatch(have *corev1.Namespace) map[string]any {
	lacks := map[string]any{}
	if have.Labels[labelEnforce] == "" {
		lacks["labels"] = map[string]any{labelEnforce: levelRestrict}
	}
	if have.Annotations[keepAnnotation] == "" {
		lacks["annotations"] = map[string]any{keepAnnotation: "keep"}
	}
	if len(lacks) == 0 {
		return nil
	}
	return map[string]any{"metadata": lacks}
}

// lockedFor is how long a release may be pending before its writer is taken to be dead. Helm itself never gives up such a lock.
const lockedFor = 10 * time.Minute

// unlock frees a release whose writer was interrupted, so that the next one can be made.
func (h *helm) unlock(had *release.Release, force bool) error {
	if had == nil || !had.Info.Status.IsPending() && had.Info.Status != release.StatusUninstalling {
		return nil
	}
	if age := h.cluster.clock.now().Sub(had.Info.LastDeployed.Time); age < lockedFor && !force {
		return problemf("Wait until it has ended. If nobody is at work on it, repeat the command with --force.",
			"another installation is under way in %s: revision %d is %s since %s", h.cluster.title(), had.Version, had.Info.Status, age.Round(time.Second))
	}
	had.SetStatus(release.StatusFailed, "interrupted")
	return explain(h.cluster, "mark the interrupted release", h.config.Releases.Update(had))
}

// sameValues says whether two sets of values say the same.
func sameValues(a, b map[string]any) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(normal(a), normal(b))
}

// normal is values as they are after a way through JSON, as those of a release are.
func normal(values map[string]any) map[string]any {
	data, err := json.Marshal(values)
	if err != nil {
		return values
	}
	fresh := map[string]any{}
	if json.Unmarshal(data, &fresh) != nil {
		return values
	}
	return fresh
}
