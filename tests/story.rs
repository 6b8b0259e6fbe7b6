//! The story, with real processes: the same steps that `deploy/up --story` prints.

use headroom_deploy::story::{Told, options, play};
use headroom_tests::Deployment;

#[tokio::test(flavor = "multi_thread")]
async fn the_story_holds_with_real_processes() {
    let mut deployment = Deployment::start_with(options).await;
    let mut steps = Vec::new();
    let mut tell = |told: Told<'_>| match told {
        Told::Chapter(heading) => steps.push(heading.to_owned()),
        Told::Step(step) => {
            steps.push(format!("{}: expected {}, saw {}", step.title, step.expected, step.seen))
        }
    };
    let played = play(&mut deployment, &mut tell).await;
    assert!(played.is_ok(), "{}\n{played:?}", steps.join("\n"));
    assert!(steps.len() > 60, "the story has lost steps:\n{}", steps.join("\n"));
    deployment.stop().await;
}
