package main

import (
	"cmp"
	"debug/buildinfo"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// rootsModule has the certificate authorities that are in the image beside the program.
const rootsModule = "golang.org/x/crypto/x509roots/fallback"

// writeSBOM writes what the programs are made of: the modules that are linked into any of them, the standard library, and the module
// that the certificate authorities come from. It has no serial number and the time of the source, so that equal programs have equal bills.
func writeSBOM(w io.Writer, version string, created time.Time, programs []*buildinfo.BuildInfo) error {
	name := programs[0].Main.Path
	main := cdx.Component{
		BOMRef: packageURL(name, version), Type: cdx.ComponentTypeApplication, Name: name, Version: version,
		PackageURL: packageURL(name, version),
		Licenses:   &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}},
	}
	components := partsOf(programs)
	refs := make([]string, len(components))
	for i, c := range components {
		refs[i] = c.BOMRef
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{
		Timestamp:  created.UTC().Format(time.RFC3339),
		Lifecycles: &[]cdx.Lifecycle{{Phase: cdx.LifecyclePhaseBuild}},
		Component:  &main,
	}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: main.BOMRef, Dependencies: &refs}}
	return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).Encode(bom)
}

// partsOf lists the modules of all programs, each once, by name.
func partsOf(programs []*buildinfo.BuildInfo) []cdx.Component {
	byRef := map[string]cdx.Component{}
	add := func(m debug.Module) {
		c := component(m)
		byRef[c.BOMRef] = c
	}
	for _, info := range programs {
		add(debug.Module{Path: "std", Version: strings.TrimPrefix(info.GoVersion, "go")})
		for _, m := range info.Deps {
			add(*m)
		}
	}
	if this, ok := debug.ReadBuildInfo(); ok {
		for _, m := range this.Deps {
			if m.Path == rootsModule {
				add(*m)
			}
		}
	}
	var components []cdx.Component
	for _, c := range byRef {
		components = append(components, c)
	}
	slices.SortFunc(components, func(a, b cdx.Component) int { return cmp.Compare(a.BOMRef, b.BOMRef) })
	return components
}

func component(m debug.Module) cdx.Component {
	if m.Replace != nil {
		m = *m.Replace
	}
	c := cdx.Component{
		BOMRef: packageURL(m.Path, m.Version), Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version,
		Scope: cdx.ScopeRequired, PackageURL: packageURL(m.Path, m.Version),
	}
	if m.Sum != "" {
		c.Properties = &[]cdx.Property{{Name: "go.sum", Value: m.Sum}}
	}
	return c
}

// packageURL is the name of a Go module as https://github.com/package-url/purl-spec has it.
func packageURL(module, version string) string {
	url := "pkg:golang/" + module
	if version == "" {
		return url
	}
	return url + "@" + strings.ReplaceAll(version, "+", "%2B")
}
