package translate

import (
	_ "embed"
	"fmt"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/randfill"
)

//go:embed fields.md
var fieldsTable string

// randomPods is how many random pods the property tests try.
const randomPods = 2000

// fieldTable reads fields.md: the word for every "Type.field".
func fieldTable(t *testing.T, text string) map[string]string {
	t.Helper()
	table := map[string]string{}
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || !strings.Contains(cells[1], ".") {
			continue
		}
		field, word := strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2])
		switch word {
		case "copied", "follows", "dropped", "changed", "inside", "twin", "home":
		default:
			t.Errorf("fields.md: %s: unknown word %q", field, word)
		}
		if _, twice := table[field]; twice {
			t.Errorf("fields.md: %s is there twice", field)
		}
		if (word == "dropped" || word == "changed") && strings.TrimSpace(cells[3]) == "" {
			t.Errorf("fields.md: %s is %s, but nobody says why", field, word)
		}
		table[field] = word
	}
	return table
}

// fieldName returns the JSON name of a struct field, and whether its type is written inline.
func fieldName(f reflect.StructField) (name string, inline bool) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name, name == "" && strings.Contains(options, "inline")
}

// typeName returns the name under which fields.md lists the fields of a type.
func typeName(t reflect.Type) string {
	if t == reflect.TypeFor[corev1.EphemeralContainerCommon]() {
		return "Container" // the compiler knows that they have the same fields: see eachContainer
	}
	return t.Name()
}

// undecided walks a type and calls report for each field that is not in the table. used collects those that are.
func undecided(t reflect.Type, path string, table map[string]string, used map[string]bool, report func(path, key string)) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, inline := fieldName(f)
		if inline {
			undecided(f.Type, path, table, used, report)
			continue
		}
		key := typeName(t) + "." + name
		word, ok := table[key]
		if !ok {
			report(path+"."+name, key)
			continue
		}
		if used[key] {
			continue
		}
		used[key] = true
		if word == "inside" {
			undecided(f.Type, path+"."+name, table, used, report)
		}
	}
}

// TestFields fails when the API has a field that nobody decided about.
func TestFields(t *testing.T) {
	table := fieldTable(t, fieldsTable)
	used := map[string]bool{}
	report := func(path, key string) {
		t.Errorf("%s: nobody has decided what happens to it. Add a row for %s to fields.md, and do what it says.", path, key)
	}
	for path, kind := range map[string]reflect.Type{
		"metadata":                 reflect.TypeFor[metav1.ObjectMeta](),
		"spec":                     reflect.TypeFor[corev1.PodSpec](),
		"status":                   reflect.TypeFor[corev1.PodStatus](),
		"spec.ephemeralContainers": reflect.TypeFor[corev1.EphemeralContainer](),
	} {
		undecided(kind, path, table, used, report)
	}
	for key := range table {
		if !used[key] {
			t.Errorf("fields.md: %s: the API has no such field. Remove the row.", key)
		}
	}
}

func TestFields_NewFieldIsReported(t *testing.T) {
	type Probe struct {
		Old string `json:"old"`
		New string `json:"new"`
	}
	type Thing struct {
		Probes []Probe `json:"probes"`
	}
	table := map[string]string{"Thing.probes": "inside", "Probe.old": "copied"}
	var got []string
	undecided(reflect.TypeFor[Thing](), "thing", table, map[string]bool{}, func(path, key string) { got = append(got, path+" "+key) })
	if want := []string{"thing.probes.new Probe.new"}; !reflect.DeepEqual(got, want) {
		t.Errorf("reported %q, want %q", got, want)
	}
}

// heldBySpec checks the rows of one struct: what is copied is equal, what is dropped is zero.
func heldBySpec(table map[string]string, local, twin reflect.Value, path string) error {
	for i := range local.NumField() {
		name, inline := fieldName(local.Type().Field(i))
		if inline {
			if err := heldBySpec(table, local.Field(i), twin.Field(i), path); err != nil {
				return err
			}
			continue
		}
		switch table[typeName(local.Type())+"."+name] {
		case "dropped":
			if !twin.Field(i).IsZero() {
				return fmt.Errorf("%s.%s is dropped, but the twin has %v", path, name, twin.Field(i))
			}
		case "copied":
			if !equality.Semantic.DeepEqual(local.Field(i).Interface(), twin.Field(i).Interface()) {
				return fmt.Errorf("%s.%s is copied, but differs: %v and %v", path, name, local.Field(i), twin.Field(i))
			}
		}
	}
	return nil
}

// TestTwin_RandomPodsKeepTheTable holds fields.md against random pods.
func TestTwin_RandomPodsKeepTheTable(t *testing.T) {
	table := fieldTable(t, fieldsTable)
	fill := filler(1)
	for range randomPods {
		var local corev1.Pod
		fill.Fill(&local)
		before := local.DeepCopy()
		twin := Twin(&local, testEnv())
		if !reflect.DeepEqual(before, &local) {
			t.Fatal("Twin changed its input")
		}
		for path, pair := range map[string][2]any{
			"metadata": {local.ObjectMeta, twin.ObjectMeta}, "spec": {local.Spec, twin.Spec},
		} {
			if err := heldBySpec(table, reflect.ValueOf(pair[0]), reflect.ValueOf(pair[1]), path); err != nil {
				t.Fatal(err)
			}
		}
		checkContainers(t, table, &local.Spec, &twin.Spec)
		checkVolumes(t, table, &local.Spec, &twin.Spec)
	}
}

func checkContainers(t *testing.T, table map[string]string, local, twin *corev1.PodSpec) {
	t.Helper()
	if len(local.Containers) != len(twin.Containers) || len(local.InitContainers) != len(twin.InitContainers) {
		t.Fatal("the twin has another number of containers")
	}
	for i := range local.Containers {
		if err := heldBySpec(table, reflect.ValueOf(local.Containers[i]), reflect.ValueOf(twin.Containers[i]), "container"); err != nil {
			t.Fatal(err)
		}
	}
	mounted := map[string]bool{}
	eachContainer(twin, func(c *corev1.Container) {
		for _, m := range c.VolumeMounts {
			mounted[m.Name] = true
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.FieldRef != nil && seenAtHome(e.ValueFrom.FieldRef.FieldPath) != e.ValueFrom.FieldRef.FieldPath {
				t.Fatalf("the twin's environment reads %s of the peer", e.ValueFrom.FieldRef.FieldPath)
			}
		}
	})
	for _, v := range local.Volumes {
		gone := true
		for _, kept := range twin.Volumes {
			gone = gone && kept.Name != v.Name
		}
		if gone && mounted[v.Name] {
			t.Fatalf("the twin mounts volume %s, which was dropped", v.Name)
		}
	}
}

func checkVolumes(t *testing.T, table map[string]string, local, twin *corev1.PodSpec) {
	t.Helper()
	next := 0
	for _, kept := range twin.Volumes {
		for local.Volumes[next].Name != kept.Name {
			if local.Volumes[next].Projected == nil {
				t.Fatalf("volume %s was dropped", local.Volumes[next].Name)
			}
			next++
		}
		if err := heldBySpec(table, reflect.ValueOf(local.Volumes[next]), reflect.ValueOf(kept), "volume"); err != nil {
			t.Fatal(err)
		}
		next++
		if kept.Projected == nil {
			continue
		}
		for _, s := range kept.Projected.Sources {
			if s.ServiceAccountToken != nil || s.PodCertificate != nil {
				t.Fatalf("the twin asks for an identity in volume %s", kept.Name)
			}
		}
	}
}

// filler returns a source of random objects that the API could hold: volumes have one source and a name of their own,
// conditions a type of their own, mounts and paths point to something.
func filler(seed int64) *randfill.Filler {
	paths := []string{"metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.podIP", "metadata.name"}
	keys := []string{corev1.LabelHostname, corev1.LabelTopologyZone, corev1.LabelArchStable, corev1.LabelOSStable, "disk", ""}
	pick := func(c randfill.Continue, list []string) string { return list[c.Intn(len(list))] }
	return randfill.NewWithSeed(seed).NilChance(0.4).NumElements(0, 3).MaxDepth(14).Funcs(
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewMilliQuantity(c.Int63n(1e6), resource.DecimalSI)
		},
		func(at *metav1.Time, c randfill.Continue) { *at = metav1.Unix(1.7e9+c.Int63n(1e6), 0) },
		func(*metav1.FieldsV1, randfill.Continue) {},
		func(ref *corev1.ObjectFieldSelector, c randfill.Continue) { ref.FieldPath = pick(c, paths) },
		func(r *corev1.NodeSelectorRequirement, c randfill.Continue) { c.FillNoCustom(r); r.Key = pick(c, keys) },
		func(term *corev1.PodAffinityTerm, c randfill.Continue) {
			c.FillNoCustom(term)
			term.TopologyKey = pick(c, keys)
		},
		func(k *corev1.TopologySpreadConstraint, c randfill.Continue) {
			c.FillNoCustom(k)
			k.TopologyKey = pick(c, keys)
		},
		func(s *corev1.VolumeSource, c randfill.Continue) {
			c.FillNoCustom(s)
			oneOf(s, c)
		},
		func(s *corev1.VolumeProjection, c randfill.Continue) {
			c.FillNoCustom(s)
			oneOf(s, c)
		},
		func(spec *corev1.PodSpec, c randfill.Continue) {
			c.FillNoCustom(spec)
			nameVolumes(spec, c)
		},
		func(s *corev1.PodStatus, c randfill.Continue) {
			c.FillNoCustom(s)
			nameStatus(s, c)
		},
	)
}

// oneOf leaves one of the pointers of a union.
func oneOf(union any, c randfill.Continue) {
	v := reflect.ValueOf(union).Elem()
	keep := c.Intn(v.NumField())
	for i := range v.NumField() {
		if i != keep {
			v.Field(i).SetZero()
		} else if v.Field(i).IsNil() {
			c.Fill(v.Field(i).Addr().Interface())
		}
	}
}

func nameVolumes(spec *corev1.PodSpec, c randfill.Continue) {
	for i := range spec.Volumes {
		spec.Volumes[i].Name = fmt.Sprint("v", i)
		if c.Bool() {
			spec.Volumes[i].Name = fmt.Sprint(apiAccessPrefix, i)
		}
	}
	eachContainer(spec, func(container *corev1.Container) {
		for i := range container.VolumeMounts {
			if len(spec.Volumes) > 0 {
				container.VolumeMounts[i].Name = spec.Volumes[c.Intn(len(spec.Volumes))].Name
			}
		}
	})
}

// nameStatus gives the keys of lists that are maps in the API different values.
func nameStatus(s *corev1.PodStatus, c randfill.Continue) {
	kinds := []corev1.PodConditionType{corev1.PodScheduled, corev1.PodReady, corev1.ContainersReady, corev1.DisruptionTarget, ConditionOffloaded, "example.com/gate"}
	shift := c.Intn(len(kinds))
	for i := range s.Conditions {
		s.Conditions[i].Type = kinds[(i+shift)%len(kinds)]
	}
	for i := range s.PodIPs {
		s.PodIPs[i].IP = fmt.Sprint("10.0.0.", (i+shift)%4)
	}
	for i := range s.HostIPs {
		s.HostIPs[i].IP = fmt.Sprint("10.0.1.", (i+shift)%4)
	}
	for i := range s.ResourceClaimStatuses {
		s.ResourceClaimStatuses[i].Name = fmt.Sprint("claim", (i+shift)%4)
	}
}

func testEnv() Env {
	return Env{Origin: "0a1b2c3d-consumer", NodeName: "spillway-peer", RemoteNamespace: "tenant-shop"}
}
