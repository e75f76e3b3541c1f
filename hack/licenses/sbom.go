// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdx/v2/common"
)

const noAssertion = "NOASSERTION"

// writeSBOM writes what a program consists of: the modules that the linker wrote into it, their licences, and Go's standard library.
func writeSBOM(root, program, binary, version, out string) (err error) {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH, the SBOM's time in seconds: %w", err)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	on := platform{setting(info, "GOOS"), setting(info, "GOARCH")}
	modules := map[string]*module{}
	if err := addModules(modules, root, program, on); err != nil {
		return fmt.Errorf("packages of %s: %w", program, err)
	}
	digest, err := sum(binary)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s_%s_%s_%s", filepath.Base(program), version, on.system, on.arch)
	document := &spdx.Document{
		SPDXVersion:       spdx.Version,
		DataLicense:       spdx.DataLicense,
		SPDXIdentifier:    "DOCUMENT",
		DocumentName:      name,
		DocumentNamespace: "https://" + info.Main.Path + "/sbom/" + name + "-" + digest,
		CreationInfo: &spdx.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: info.Main.Path + "/hack/licenses"}},
			Created:  time.Unix(seconds, 0).UTC().Format(time.RFC3339),
		},
	}
	published := describe(info.Main.Path, version, []string{"Apache-2.0"})
	published.PackageDownloadLocation = "git+https://" + info.Main.Path + "@" + version
	published.PackageFileName = filepath.Base(program)
	published.PrimaryPackagePurpose = "APPLICATION"
	published.PackageChecksums = []common.Checksum{{Algorithm: spdx.SHA256, Value: digest}}
	document.Packages = append(document.Packages, published)
	document.Relationships = append(document.Relationships, relation("DOCUMENT", "DESCRIBES", published.PackageSPDXIdentifier))

	for _, dep := range append([]*debug.Module{{Path: standardLibrary, Version: modules[standardLibrary].version}}, info.Deps...) {
		m := modules[dep.Path]
		if m == nil {
			return fmt.Errorf("%s was not built of %s as it is in %s: it contains %s", binary, program, root, dep.Path)
		}
		if dep.Replace != nil {
			dep = dep.Replace
		}
		if dep.Version != m.version {
			return fmt.Errorf("%s was not built of %s as it is in %s: it contains %s %s, not %s", binary, program, root, m.path, dep.Version, m.version)
		}
		licences, err := m.licences()
		if err != nil {
			return fmt.Errorf("%s: %w", m.path, err)
		}
		p := describe(dep.Path, dep.Version, licences)
		p.PrimaryPackagePurpose = "LIBRARY"
		if dep.Sum != "" {
			p.PackageSourceInfo = "go.sum: " + dep.Sum
		}
		document.Packages = append(document.Packages, p)
		document.Relationships = append(document.Relationships, relation(published.PackageSPDXIdentifier, "DEPENDS_ON", p.PackageSPDXIdentifier))
	}

	file, err := os.Create(out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return spdxjson.Write(document, file, spdxjson.Indent("  "), spdxjson.EscapeHTML(false))
}

// notInID are the characters that an identifier of SPDX cannot have.
var notInID = regexp.MustCompile(`[^A-Za-z0-9.]+`)

func describe(path, version string, licences []string) *spdx.Package {
	return &spdx.Package{
		PackageName:               path,
		PackageSPDXIdentifier:     common.ElementID("Package-" + notInID.ReplaceAllString(path+"-"+version, "-")),
		PackageVersion:            version,
		PackageDownloadLocation:   noAssertion, // the reference says what it is; where modules come from is everybody's own setting
		PackageLicenseConcluded:   noAssertion,
		PackageLicenseDeclared:    strings.Join(licences, " AND "),
		PackageCopyrightText:      noAssertion,
		PackageExternalReferences: []*spdx.PackageExternalReference{{Category: "PACKAGE-MANAGER", RefType: "purl", Locator: "pkg:golang/" + path + "@" + version}},
	}
}

func relation(from common.ElementID, what string, to common.ElementID) *spdx.Relationship {
	return &spdx.Relationship{RefA: common.MakeDocElementID("", string(from)), Relationship: what, RefB: common.MakeDocElementID("", string(to))}
}

func setting(info *buildinfo.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

func sum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, file)
	return fmt.Sprintf("%x", hash.Sum(nil)), err
}
