//! A finished picture: its SVG, the PNG rendered from it, and writing the two side by side.

use std::path::{Path, PathBuf};

use resvg::{tiny_skia, usvg};

use super::text;

/// Pixels of the PNG per pixel of the SVG: sharp on the displays people have.
const PNG_SCALE: f32 = 2.0;

/// Why a picture could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// The drawing backend refused an element.
    #[error("cannot draw {title:?}: {message}")]
    Draw {
        /// The chart's title.
        title: String,
        /// What the backend said.
        message: String,
    },
    /// The SVG could not be read back for the PNG.
    #[error("cannot read the SVG back to render the PNG")]
    Parse(#[from] usvg::Error),
    /// The bitmap is too large, or empty.
    #[error("cannot render a bitmap of {width}x{height}: choose a smaller chart")]
    Bitmap {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The bitmap could not be encoded.
    #[error("cannot encode the PNG: {0}")]
    Encode(String),
    /// A file could not be written.
    #[error("cannot write {}: check that the folder exists and is writable, or choose another with --out", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A drawn chart.
#[derive(Clone, Debug)]
pub struct Picture {
    svg: String,
}

impl Picture {
    pub(super) fn new(svg: String) -> Picture {
        Picture { svg }
    }

    /// The drawing as SVG text.
    #[must_use]
    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// The same drawing as a PNG of twice the resolution, with the text in the embedded font.
    pub fn png(&self) -> Result<Vec<u8>, ChartError> {
        let tree = usvg::Tree::from_str(&self.svg, &text::options())?;
        let size = tree.size();
        let (width, height) =
            ((size.width() * PNG_SCALE).ceil() as u32, (size.height() * PNG_SCALE).ceil() as u32);
        let mut pixels = tiny_skia::Pixmap::new(width, height).ok_or(ChartError::Bitmap { width, height })?;
        resvg::render(&tree, tiny_skia::Transform::from_scale(PNG_SCALE, PNG_SCALE), &mut pixels.as_mut());
        pixels.encode_png().map_err(|error| ChartError::Encode(error.to_string()))
    }

    /// Writes `NAME.svg` and `NAME.png` into `folder` and returns their paths.
    pub fn write(&self, folder: &Path, name: &str) -> Result<[PathBuf; 2], ChartError> {
        let svg = folder.join(format!("{name}.svg"));
        let png = folder.join(format!("{name}.png"));
        put(&svg, self.svg.as_bytes())?;
        put(&png, &self.png()?)?;
        Ok([svg, png])
    }
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), ChartError> {
    std::fs::write(path, bytes).map_err(|source| ChartError::Write { path: path.to_owned(), source })
}
