package v1alpha1

import (
	"os"
	"slices"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/json" // whole numbers become int64, as in the API server
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

const (
	peeringCRD   = "../../charts/spillway/files/crds/spillway.dev_peerings.yaml"
	policyCRD    = "../../charts/spillway/files/crds/spillway.dev_offloadpolicies.yaml"
	migrationCRD = "../../charts/spillway/files/crds/spillway.dev_migrations.yaml"
)

// TestCRD_AcceptedByAPIServer runs the validation that an API server runs when a CRD is created, the cost limits of the CEL
// rules included.
func TestCRD_AcceptedByAPIServer(t *testing.T) {
	for _, file := range []string{peeringCRD, policyCRD, migrationCRD} {
		crd := loadCRD(t, file)
		crd.Status.StoredVersions = []string{"v1alpha1"} // the API server fills this before it validates
		for _, err := range crdvalidation.ValidateCustomResourceDefinition(t.Context(), crd) {
			t.Errorf("an API server would refuse %s: %v", file, err)
		}
	}
}

// crdSchema answers as an API server that serves the generated CRD.
type crdSchema struct {
	structural *structuralschema.Structural
	openAPI    validation.SchemaValidator
	rules      *cel.Validator
}

func newSchema(t *testing.T, file string) crdSchema {
	t.Helper()
	props := loadCRD(t, file).Spec.Validation // one version only: the conversion moves its schema here
	if props == nil {
		t.Fatalf("%s has no schema", file)
	}
	structural, err := structuralschema.NewStructural(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	openAPI, _, err := validation.NewSchemaValidator(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	return crdSchema{structural, openAPI, cel.NewValidator(structural, true, celconfig.PerCallLimit)}
}

func loadCRD(t *testing.T, file string) *apiextensions.CustomResourceDefinition {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var external apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(data, &external); err != nil {
		t.Fatal(err)
	}
	apiextensionsv1.SetObjectDefaults_CustomResourceDefinition(&external)
	var crd apiextensions.CustomResourceDefinition
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&external, &crd, nil); err != nil {
		t.Fatal(err)
	}
	return &crd
}

// defaulted is the stored form of p.
func (s crdSchema) defaulted(t *testing.T, p any) map[string]any {
	t.Helper()
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(data, &object); err != nil {
		t.Fatal(err)
	}
	defaulting.Default(object, s.structural)
	return object
}

// validate returns the refusals of object as an update of old, or as a new object if old is nil.
func (s crdSchema) validate(t *testing.T, object, old map[string]any) []string {
	t.Helper()
	var errs field.ErrorList
	var oldObject any
	if old == nil {
		errs = validation.ValidateCustomResource(nil, object, s.openAPI)
	} else {
		oldObject = old
		errs = validation.ValidateCustomResourceUpdate(nil, object, old, s.openAPI)
	}
	celErrs, _ := s.rules.Validate(t.Context(), nil, s.structural, object, oldObject, celconfig.RuntimeCELCostBudget)
	return refusals(append(errs, celErrs...))
}

// refusals are "field: message" of each error, sorted; "message" alone where it is about the whole object.
func refusals(errs field.ErrorList) []string {
	var out []string
	for _, err := range errs {
		detail := strings.TrimPrefix(err.Detail, err.Field+" in body ")
		if detail == "" {
			detail = err.Type.String()
		}
		out = append(out, strings.TrimPrefix(err.Field+": "+detail, "<nil>: "))
	}
	slices.Sort(out)
	return out
}
