package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/spillway-dev/spillway/charts"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	// releaseName is the name of Helm's release. The code of both programs has the names of the chart's objects fixed, so there
	// is one release in a cluster, in v1alpha1.SystemNamespace.
	releaseName = charts.ReleaseName

	// keptRevisions bounds the history in the cluster: enough to go back some versions, and few Secrets.
	keptRevisions = 10

	// managerInstall writes what the installation makes beside the chart, and the chart's objects.
	managerInstall = "spillway-install"
)

// helm is Helm's library at work on one cluster, in Spillway's namespace.
type helm struct {
	cluster *cluster
	config  *action.Configuration
}

// newHelm makes the library ready. It talks to no cluster.
func newHelm(c *cluster) (*helm, error) {
	kube.ManagedFieldsManager = managerInstall
	h := &helm{cluster: c, config: &action.Configuration{}}
	quiet := func(string, ...any) {} // what there is to say, steps say
	if err := h.config.Init(&helmClients{config: c.config}, v1alpha1.SystemNamespace, "secret", quiet); err != nil {
		return nil, fmt.Errorf("prepare Helm: %w", err)
	}
	return h, nil
}

// helmClients gives Helm the clients of a cluster.
type helmClients struct {
	config *rest.Config
	cache  discovery.CachedDiscoveryInterface
}

func (g *helmClients) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(g.config), nil }

func (g *helmClients) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	if g.cache == nil {
		plain, err := discovery.NewDiscoveryClientForConfig(g.config)
		if err != nil {
			return nil, err
		}
		g.cache = memory.NewMemCacheClient(plain)
	}
	return g.cache, nil
}

func (g *helmClients) ToRESTMapper() (meta.RESTMapper, error) {
	cache, err := g.ToDiscoveryClient()
	if err != nil {
		return nil, err
	}
	return restmapper.NewDeferredDiscoveryRESTMapper(cache), nil
}

// ToRawKubeConfigLoader is asked for the namespace alone.
func (g *helmClients) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	overrides := &clientcmd.ConfigOverrides{Context: clientcmdapi.Context{Namespace: v1alpha1.SystemNamespace}}
	return clientcmd.NewDefaultClientConfig(*clientcmdapi.NewConfig(), overrides)
}

// loadChart reads the chart at path, a folder or an archive; the embedded one when path is empty.
func loadChart(path string) (*chart.Chart, error) {
	if path != "" {
		loaded, err := loader.Load(path)
		if err != nil {
			return nil, usagef("Give the path of a chart, a folder or a .tgz, or leave it out for the chart of this program.", "--chart %s cannot be read: %s", path, err)
		}
		if loaded.Name() != releaseName {
			return nil, usagef("Give Spillway's own.", "--chart %s is the chart %q", path, loaded.Name())
		}
		return loaded, nil
	}
	return charts.Load()
}

// last is the newest release; nil: there is none.
func (h *helm) last() (*release.Release, error) {
	found, err := h.config.Releases.Last(releaseName)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, nil
	}
	return found, explain(h.cluster, "read the Helm release "+releaseName, err)
}

// install makes the first release. With dry, it only says what it would be.
func (h *helm) install(ctx context.Context, ch *chart.Chart, values map[string]any, dry bool) (*release.Release, error) {
	i := action.NewInstall(h.config)
	i.ReleaseName, i.Namespace = releaseName, v1alpha1.SystemNamespace
	i.DryRun = dry
	i.DisableOpenAPIValidation = true // the API server checks, and says more
	i.TakeOwnership = true            // what an interrupted installation, or kubectl, has left
	i.Replace = true                  // a release whose uninstallation was interrupted
	i.Timeout = helmTimeout(ctx)
	if dry {
		i.DryRunOption = "server"
	}
	r, err := i.RunWithContext(ctx, ch, values)
	return r, h.explain("install the chart", err)
}

// upgrade makes the next release, with these values and no others. With dry, it only says what it would be.
func (h *helm) upgrade(ctx context.Context, ch *chart.Chart, values map[string]any, dry bool) (*release.Release, error) {
	u := action.NewUpgrade(h.config)
	u.Namespace, u.MaxHistory = v1alpha1.SystemNamespace, keptRevisions
	u.ResetValues = true
	u.DryRun = dry
	u.DisableOpenAPIValidation = true
	u.TakeOwnership = true
	u.Timeout = helmTimeout(ctx)
	if dry {
		u.DryRunOption = "server"
	}
	r, err := u.RunWithContext(ctx, releaseName, ch, values)
	return r, h.explain("upgrade the release", err)
}

// explain turns Helm's words into a problem.
func (h *helm) explain(deed string, err error) error {
	if err == nil {
		return nil
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) || unreachable(err) {
		return explain(h.cluster, deed, err)
	}
	return problemf("", "cannot %s in %s: %s", deed, h.cluster.title(), strings.TrimSpace(err.Error()))
}

// helmTimeout is how long Helm may wait for hooks, of which the chart has none.
func helmTimeout(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return time.Minute
}

// objects are those of a manifest as the API server knows their kinds.
func (h *helm) objects(manifest string) (kube.ResourceList, error) {
	found, err := h.config.KubeClient.Build(bytes.NewBufferString(manifest), false)
	return found, h.explain("read the chart's objects", err)
}

// missing are the objects of a manifest that are not in the cluster, as kind namespace/name.
func (h *helm) missing(manifest string) ([]string, error) {
	found, err := h.objects(manifest)
	if err != nil {
		return nil, err
	}
	var names []string
	err = found.Visit(func(info *resource.Info, err error) error {
		if err != nil {
			return err
		}
		switch err := info.Get(); {
		case apierrors.IsNotFound(err):
			names = append(names, infoName(info))
		case err != nil:
			return explain(h.cluster, "read "+infoName(info), err)
		}
		return nil
	})
	return names, err
}

// infoName is kind namespace/name.
func infoName(info *resource.Info) string {
	kind := info.Mapping.GroupVersionKind.Kind
	if info.Namespace == "" {
		return kind + " " + info.Name
	}
	return kind + " " + info.Namespace + "/" + info.Name
}
